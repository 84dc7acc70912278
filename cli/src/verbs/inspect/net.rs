//! Addresses and names of this machine, as pg_autoctl finds them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::process::Command;

use monitor_client::Target;
use serde_json::json;
use tracing::info;

use crate::args::JsonArgs;
use crate::args::inspect::{InspectShow, Named, Towards};
use crate::exit::{CliError, Status};
use crate::output;
use crate::verbs::{create, version};

/// Where the route is looked for when no monitor is named. Nothing is sent there.
const SOMEWHERE: (&str, u16) = ("8.8.8.8", 53);

pub fn run(verb: InspectShow) -> Result<(), CliError> {
    match verb {
        InspectShow::Ipaddr(towards) => print(&towards.json, "ipaddr", &own_address(&towards)?.to_string()),
        InspectShow::Cidr(towards) => print(&towards.json, "cidr", &cidr(&towards)?),
        InspectShow::Lookup(Named { host, json }) => {
            let addresses = lookup(&host)?;
            if json.json {
                return output::json(&json!({"host": host, "addresses": addresses}));
            }
            for address in addresses {
                output::line(&format!("{host}: {address}"))?;
            }
            Ok(())
        }
        InspectShow::Hostname(towards) => print(&towards.json, "hostname", &create::machine_name()?),
        InspectShow::Reverse(Named { host, json }) => {
            let address = reverse(&host)?;
            match json.json {
                true => output::json(&json!({"host": host, "address": address})),
                false => Ok(()),
            }
        }
        InspectShow::Version(_) => version::run(&JsonArgs { json: true }),
    }
}

fn print(json: &JsonArgs, key: &str, value: &str) -> Result<(), CliError> {
    match json.json {
        true => output::json(&json!({key: value})),
        false => output::line(value),
    }
}

/// The address of this machine on the way to the monitors: a UDP socket is connected, which only
/// chooses a route.
fn own_address(towards: &Towards) -> Result<IpAddr, CliError> {
    let named = towards.monitor.clone().or_else(|| std::env::var("PG_AUTOCTL_MONITOR").ok().filter(|uri| !uri.is_empty()));
    let (host, port) = match named {
        Some(uri) => {
            let target =
                Target::parse(&uri).map_err(|error| CliError::new(Status::BadArguments, error.to_string()))?;
            match target.endpoints.first() {
                Some(first) => (first.host.clone(), first.port),
                None => (SOMEWHERE.0.to_string(), SOMEWHERE.1),
            }
        }
        None => (SOMEWHERE.0.to_string(), SOMEWHERE.1),
    };
    let any = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let route = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind(any)?;
        socket.connect((host.as_str(), port))?;
        Ok(socket.local_addr()?.ip())
    };
    info!("looking for the route to {host} (port {port})");
    route().map_err(|error| {
        CliError::new(Status::BadState, format!("there is no route to {host}: {error}"))
            .hint("name the address yourself: --hostname")
    })
}

/// The network that the kernel's routing table has the address in.
fn cidr(towards: &Towards) -> Result<String, CliError> {
    let address = own_address(towards)?;
    let IpAddr::V4(address) = address else {
        return Err(CliError::new(Status::BadState, format!("{address} is no IPv4 address")));
    };
    if address.is_loopback() {
        return Ok("127.0.0.0/8".to_string());
    }
    let table = fs::read_to_string("/proc/net/route")?;
    match network_of(address, &table) {
        Some((network, bits)) => Ok(format!("{network}/{bits}")),
        None => Err(CliError::new(Status::BadState, format!("the routing table has no network of {address}"))),
    }
}

/// The narrowest network of `/proc/net/route` that holds the address.
fn network_of(address: Ipv4Addr, table: &str) -> Option<(Ipv4Addr, u32)> {
    // Columns 2 and 8 are destination and mask, hexadecimal, the first byte last.
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (network, mask) = (number(columns.get(1)?)?, number(columns.get(7)?)?);
            let holds = mask != 0 && u32::from(address) & mask == network;
            holds.then_some((Ipv4Addr::from(network), mask.count_ones()))
        })
        .max_by_key(|(_, bits)| *bits)
}

fn lookup(host: &str) -> Result<Vec<IpAddr>, CliError> {
    let found = (host, 0).to_socket_addrs().map_err(|error| {
        CliError::new(Status::BadState, format!("\"{host}\" does not resolve: {error}"))
            .hint("check DNS and /etc/hosts")
    })?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// Forward by the resolver; back by getent, which asks what the C library would.
fn reverse(host: &str) -> Result<IpAddr, CliError> {
    let mut names = Vec::new();
    for address in lookup(host)? {
        let said = Command::new("getent").args(["hosts", &address.to_string()]).output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let found: Vec<&str> = said.split_whitespace().skip(1).collect();
        if found.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            info!("\"{host}\" resolves to {address} and back");
            return Ok(address);
        }
        names.push(format!("{address} resolves to {}", if found.is_empty() { "no name".into() } else { found.join(", ") }));
    }
    Err(CliError::new(
        Status::BadState,
        format!("\"{host}\" does not come back from its addresses: {}", names.join("; ")),
    )
    .hint("pg_hba.conf can use the addresses instead: --hostname ADDRESS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_network_counts() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t0100A8C0\t3\t0\t0\t0\t00000000\n\
                     eth0\t0000A8C0\t00000000\t1\t0\t0\t0\t0000FFFF\n\
                     eth0\t0001A8C0\t00000000\t1\t0\t0\t0\t00FFFFFF\n";
        assert_eq!(network_of(Ipv4Addr::new(192, 168, 1, 7), table), Some((Ipv4Addr::new(192, 168, 1, 0), 24)));
        assert_eq!(network_of(Ipv4Addr::new(192, 168, 2, 7), table), Some((Ipv4Addr::new(192, 168, 0, 0), 16)));
        assert_eq!(network_of(Ipv4Addr::new(10, 0, 0, 1), table), None);
    }
}

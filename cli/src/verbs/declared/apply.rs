//! Has the monitors take up what the file says, where it differs from what they have.

use monitor_client::MonitorClient;
use serde_json::{Value, json};
use tracing::info;

use super::file::{DeclaredFormation, Kind, NodeFile};
use crate::args::{DataDir, MonitorArgs};
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::verbs::{find_node, print_notices, settings};

/// As long as a primary may take to apply one setting, in seconds.
const WAIT: u64 = 60;

/// One setting that was changed.
#[derive(Debug)]
pub struct Applied {
    pub of: String,
    pub setting: &'static str,
    pub value: Value,
}

impl Applied {
    pub fn json(&self) -> Value {
        json!({"of": self.of, "setting": self.setting, "value": self.value})
    }
}

/// Changes what differs.
///
/// # Errors
/// The first change that the monitors refuse or that nobody could be asked for; those before it stay made.
pub async fn apply(file: &NodeFile) -> Result<Vec<Applied>, CliError> {
    let data = DataDir { pgdata: Some(file.pgdata.clone()) };
    let operator = Operator::new(&MonitorArgs { monitor: None, data }, &None)?;
    let done = match file.kind {
        Kind::Postgres => node(file, &operator).await?,
        Kind::Monitor => {
            let mut done = Vec::new();
            for declared in &file.formations {
                formation(declared, &operator.client, &mut done).await?;
            }
            done
        }
    };
    for Applied { of, setting, value } in &done {
        info!("{of}: {setting} is {value} now");
    }
    Ok(done)
}

async fn node(file: &NodeFile, operator: &Operator) -> Result<Vec<Applied>, CliError> {
    use settings::Change;
    let (client, formation) = (&operator.client, &operator.formation);
    let wanted = &file.settings;
    let row = find_node(client, formation, &operator.located.node).await?;
    let of = format!("node \"{}\"", row.name);
    let changes = [
        wanted.candidate_priority.filter(|wanted| *wanted != row.candidate_priority).map(Change::Priority),
        wanted.replication_quorum.filter(|wanted| *wanted != row.replication_quorum).map(Change::Quorum),
    ];
    let mut done = Vec::new();
    for change in changes.into_iter().flatten() {
        change.make(operator, &row, Some(WAIT)).await?;
        done.push(Applied { of: of.clone(), setting: change.name(), value: change.value() });
    }
    if let Some(region) = &wanted.region
        && client.region(formation, &row.name).await.map_err(settings::regions_unknown)?.as_ref() != Some(region)
    {
        client.set_region(formation, &row.name, region).await.map_err(settings::regions_unknown)?;
        done.push(Applied { of, setting: "region", value: json!(region) });
    }
    Ok(done)
}

async fn formation(wanted: &DeclaredFormation, client: &MonitorClient, done: &mut Vec<Applied>) -> Result<(), CliError> {
    let of = format!("formation \"{}\"", wanted.name);
    let Some(present) = client.formation(&wanted.name).await? else {
        let (secondary, number) = (wanted.secondary.unwrap_or(true), wanted.number_sync_standbys.unwrap_or(0));
        match client.create_formation(&wanted.name, &wanted.kind, &wanted.dbname, secondary, number).await {
            // The file of another monitor says the same, and that one was first.
            Err(error) if error.code() == Some("23505") => return Ok(()),
            other => other?,
        };
        print_notices(client);
        done.push(Applied { of, setting: "kind", value: json!(wanted.kind) });
        return Ok(());
    };
    if present.kind != wanted.kind {
        return Err(CliError::new(
            Status::BadConfiguration,
            format!("{of} is of kind {}, which does not change to {}", present.kind, wanted.kind),
        ));
    }
    if let Some(secondary) = wanted.secondary.filter(|wanted| *wanted != present.secondary) {
        client.set_secondary(&wanted.name, secondary).await?;
        done.push(Applied { of: of.clone(), setting: "secondary", value: json!(secondary) });
    }
    if let Some(number) = wanted.number_sync_standbys.filter(|wanted| *wanted != present.number_sync_standbys) {
        client.set_number_sync_standbys(&wanted.name, number).await?;
        done.push(Applied { of, setting: "number-sync-standbys", value: json!(number) });
    }
    print_notices(client);
    Ok(())
}

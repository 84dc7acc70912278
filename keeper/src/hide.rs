//! Passwords on the command line, as in `--monitor postgres://autoctl_node:secret@...`, are overwritten
//! once they have been read: a keeper runs for months, and everybody may look at `ps`.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// Overwrites what looks like a password in this process' arguments, where the kernel reads them for `ps`.
/// To be called when the arguments have been parsed.
pub fn passwords() -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let odd = || io::Error::other("/proc/self/stat has no arg_start and arg_end");
    // The program's name, in brackets, may hold anything. arg_start is field 48, this begins with field 3.
    let mut fields = stat.rsplit_once(')').ok_or_else(odd)?.1.split_whitespace().skip(45);
    let mut address = || fields.next().and_then(|field| field.parse::<u64>().ok()).ok_or_else(odd);
    let (start, end) = (address()?, address()?);
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    let mut arguments = vec![0u8; end.saturating_sub(start).min(1 << 20) as usize];
    memory.read_exact_at(&mut arguments, start)?;
    match mask(&mut arguments) {
        true => memory.write_all_at(&arguments, start),
        false => Ok(()),
    }
}

/// Asterisks for the passwords of URIs and of `password=`. `true` when there was one.
fn mask(arguments: &mut [u8]) -> bool {
    let mut found = false;
    let mut secret = false;
    for argument in arguments.split_mut(|byte| *byte == 0) {
        // As in `--replication-password XYZ`.
        if std::mem::replace(&mut secret, argument.starts_with(b"--") && argument.ends_with(b"-password")) {
            found |= !argument.is_empty();
            argument.fill(b'*');
            continue;
        }
        let text = String::from_utf8_lossy(argument).into_owned();
        // Replacement characters would shift what follows.
        if text.len() != argument.len() {
            continue;
        }
        let mut ranges = Vec::new();
        if let Some(at) = text.find("://").map(|at| at + 3) {
            let rest = &text[at..];
            let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
            if let (Some(colon), Some(host)) = (authority.find(':'), authority.rfind('@'))
                && colon < host
            {
                ranges.push(at + colon + 1..at + host);
            }
        }
        for (at, word) in text.match_indices("password=") {
            let from = at + word.len();
            let length = text[from..].find(['&', ' ']).unwrap_or(text.len() - from);
            ranges.push(from..from + length);
        }
        for range in ranges {
            found |= !range.is_empty();
            argument[range].fill(b'*');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn passwords_and_nothing_else() {
        for (text, expected) in [
            ("run\0--monitor\0postgres://u:se@ret@a:1,b:2/db?x=y\0--force", "run\0--monitor\0postgres://u:******@a:1,b:2/db?x=y\0--force"),
            ("postgres://u@a:5432/db", "postgres://u@a:5432/db"),
            ("postgres://a:5432/db?password=xyz&sslmode=require", "postgres://a:5432/db?password=***&sslmode=require"),
            ("--monitor=host=a password=xyz user=u", "--monitor=host=a password=*** user=u"),
            ("--pgdata\0/data", "--pgdata\0/data"),
            ("--replication-password\0xyz\0--run", "--replication-password\0***\0--run"),
            ("--autoctl-node-password=xyz\0--run", "--autoctl-node-password=***\0--run"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn works_on_this_process() {
        passwords().unwrap();
    }
}

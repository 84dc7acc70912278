//! The commands as the reference lists them: what the definitions of the options say.

use std::process::Command as Process;

pub struct Command {
    pub name: String,
    options: Vec<String>,
}

impl Command {
    pub fn takes(&self, option: &str) -> bool {
        self.options.iter().any(|line| line.contains(&format!("`{option}`")) || line.contains(&format!("`{option} ")))
    }
}

/// All of them, without those that only say why they do nothing.
pub fn commands() -> Vec<Command> {
    let output = Process::new(env!("CARGO_BIN_EXE_pgquorum")).args(["help", "reference"]).output().unwrap();
    let mut found: Vec<Command> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(name) = line.strip_prefix("## pgquorum ") {
            found.push(Command { name: name.to_string(), options: Vec::new() });
        } else if line.starts_with("| `") {
            found.last_mut().unwrap().options.push(line.to_string());
        }
    }
    assert!(found.len() > 70, "{} commands", found.len());
    found
}

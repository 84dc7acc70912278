//! Settings that change while the keeper runs.

use std::sync::Arc;

use tracing::{info, warn};

use crate::config::Config;
use crate::keeper::Keeper;
use crate::observe::Observer;
use crate::postgres::{roles, start};
use crate::source::Source;

impl Keeper {
    /// Reads the configuration again and takes it up; what cannot be taken up is said.
    pub(crate) async fn reload(&mut self) {
        let config = match Config::load(&self.worker.paths.config) {
            Ok(config) => Arc::new(config),
            Err(error) => return warn!("reload: the configuration is kept as it was: {error}"),
        };
        let old = std::mem::replace(&mut self.worker.config, config.clone());
        self.observer = Observer::start(config.clone(), self.worker.guardian.clone());
        if old.monitor != config.monitor {
            match Source::of(&config, &self.worker.paths) {
                Ok(source) => self.worker.source = Arc::new(source),
                Err(error) => warn!("reload: {error}"),
            }
            if !config.has_monitor() {
                info!("this node has no monitors any more: its goals are an operator's from now on");
            }
        }
        if old.name != config.name || old.hostname != config.hostname {
            match self.worker.source.rename(&config, self.state.node_id).await {
                Ok(()) => info!("told the monitors the name \"{}\" and the host {}", config.name, config.hostname),
                Err(error) => warn!("reload: the monitors did not take the new name or host: {error}"),
            }
        }
        let settings = async {
            self.worker.configure(false).await?;
            start::reload(&config).await?;
            // A new replication password.
            match self.state.current.is_writable() {
                true => roles::ensure(&config).await,
                false => Ok(()),
            }
        };
        match settings.await {
            Ok(()) => info!("the configuration was read again"),
            Err(error) => warn!("reload: {error}"),
        }
        // How it connects to its upstream may have changed.
        self.follow_anew = true;
    }
}

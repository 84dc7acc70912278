//! Settings that change while the keeper runs.

use std::sync::Arc;

use tracing::{info, warn};

use crate::config::Config;
use crate::keeper::{Keeper, monitor_client};
use crate::observe::Observer;
use crate::postgres::{roles, start};

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
            match monitor_client(&config) {
                Ok(client) => self.worker.monitor = Arc::new(client),
                Err(error) => warn!("reload: {error}"),
            }
        }
        if old.name != config.name || old.hostname != config.hostname {
            let (name, host) = (Some(config.name.as_str()), Some(config.hostname.as_str()));
            match self.worker.monitor.update_node_metadata(self.state.node_id, name, host, Some(config.port)).await {
                Ok(_) => info!("told the monitors the name \"{}\" and the host {}", config.name, config.hostname),
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

//! Load and measurement for the benchmarks.

pub mod black_hole;
pub mod failover;
pub mod fleet;
pub mod load;
pub mod straggler;
pub mod table;
pub mod usage;

/// The runtime of a benchmark: two threads at most, as the monitors need the machine, too.
pub fn runtime() -> crate::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// How a benchmark's process ends: its error goes to stderr.
pub fn ended(result: crate::Result<()>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

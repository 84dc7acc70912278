//! Load and measurement for the benchmarks.

//! PostgreSQL's values: their text in and out, and the arithmetic that SQLite does not have.

pub mod array;
pub mod binary;
pub mod decimal;
pub mod input;
pub mod interval;
pub mod json;
pub mod json_read;
pub mod output;
pub mod time;
pub mod zone;

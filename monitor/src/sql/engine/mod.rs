//! The read tier: free SELECTs over an in-memory SQLite that mirrors the state.

//! What the rules look at, for those who run them elsewhere: `pgquorum explain` and `simulate`.

use failover::Snapshot;

use super::*;
use crate::sql::function::{Handler, Returns};

pub(super) fn entries() -> Vec<Function> {
    vec![Function {
        schema: "pgquorum",
        name: "group_facts",
        args: const { &[opt("formation_id", PgType::Text, "default"), opt("group_id", PgType::Int4, "0")] },
        returns: Returns::Scalar(PgType::Text),
        strict: true,
        doc: "Everything that the rules look at in a group, as JSON: settings, nodes, and what the leading monitor has \
              witnessed. For `pgquorum explain` and `pgquorum simulate` of the same release; its form may change.",
        handler: Handler::Read(|view, a| {
            let snapshot = Snapshot::of(&view.state, &view.observations, view.now, &text(a, 0)?, int4(a, 1)?);
            let json = serde_json::to_string(&snapshot)
                .map_err(|error| SqlError::new("XX000", format!("the facts cannot be written as JSON: {error}")))?;
            Ok(vec![vec![Datum::Text(json)]])
        }),
    }]
}

//! What was done at this node, by whom and why: never a value.

use serde_json::Value;
use uuid::Uuid;

use crate::principal::Principal;

/// See the [module](self). Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Audit(());

impl Audit {
    /// Notes something that was done or refused. `action` is a stable word such as `task.create`; `detail` holds public things only: names, rules,
    /// parameters, codes.
    pub fn note(&self, who: &Principal, action: &'static str, task: Option<&Uuid>, detail: &Value) {
        tracing::info!(who = who.shown(), action, ?task, %detail, "audit");
    }
}

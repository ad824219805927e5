//! An input that is there before its task is: read first, so that what cannot be used is refused before anything is sent.

use std::sync::Arc;

use fdrtd_mpc::microprotocol::{Configured, Prepared};
use fdrtd_mpc::net::Party;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Context, Mode, Task};
use crate::descriptor::Descriptor;
use crate::policy::Permit;
use crate::problem::Problem;
use crate::store::Write;

/// See the [module](self).
pub(crate) struct First {
    text: Zeroizing<String>,
    prepared: Prepared,
}

impl First {
    /// Looks at an input as the task of this description would.
    ///
    /// # Errors
    /// Those of [`Task::input`].
    pub(crate) async fn read(
        context: Arc<Context>,
        permit: &Permit,
        descriptor: Descriptor,
        configured: Configured,
        me: Party,
        text: Zeroizing<String>,
    ) -> Result<First, Problem> {
        // One that nobody ever hears of.
        let task = Task::new(context, permit, descriptor, configured, me, Mode::OnInput);
        let prepared = task.look_at(&text).await?;
        Ok(First { text, prepared })
    }
}

impl Task {
    /// Writes that there is this task, and its input if it has one; that is then to be given.
    ///
    /// # Errors
    /// When the storage fails.
    pub(crate) async fn record_birth(
        &self,
        action: &'static str,
        first: Option<First>,
    ) -> Result<Option<Prepared>, Problem> {
        let birth = Some(self.entry_of_birth(action));
        let Some(First { text, prepared }) = first else {
            self.put_record(birth, false).await?;
            return Ok(None);
        };
        {
            let mut core = self.lock();
            core.inputs = vec![text];
            core.sealed = true;
        }
        let input = self.entry(&self.owner, "task.input", &json!({}));
        // Queued one after the other, and so committed together.
        let written = self.put_record(birth, false);
        let noted = self.context.store.commit(Write::note(input));
        written.await?;
        noted.await?;
        Ok(Some(prepared))
    }

    /// Gives an input that was read and recorded.
    pub(crate) fn give(self: &Arc<Self>, prepared: Prepared) {
        self.with(|session, now| session.give_input(prepared, now));
    }

    /// What `look` makes of its input, if it has one and it is the only one.
    pub(crate) fn map_input<T>(&self, look: impl FnOnce(&str) -> T) -> Option<T> {
        let core = self.lock();
        match &core.inputs[..] {
            [text] => Some(look(text)),
            _ => None,
        }
    }
}

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
use crate::reason::Reason;
use crate::session::Session;

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
    /// Queues the record that there is this task, with its input if it has one, which is then to be given. The future ends when it is written.
    pub(crate) fn record_birth(
        &self,
        action: &'static str,
        first: Option<First>,
    ) -> (
        impl Future<Output = Result<(), Problem>> + Send + use<>,
        Option<Prepared>,
    ) {
        let mut notes = vec![self.entry_of_birth(action)];
        let prepared = first.map(|First { text, prepared }| {
            let mut core = self.lock();
            core.inputs = vec![text];
            core.sealed = true;
            notes.push(self.entry(&self.owner, "task.input", &json!({})));
            prepared
        });
        (self.put_record(notes, false), prepared)
    }

    /// Ends a task that others may have heard of, but of which there is no record.
    pub(crate) fn stillborn(self: &Arc<Self>) {
        self.lock().deleted = true;
        self.with(|session, _| {
            let party = session.me().index();
            session.fail(Reason::NoRoom { party });
        });
    }

    /// Gives an input that was read, and whose record is being written: the others are told that it is there, but its data wait for [`Task::recorded`].
    pub(crate) fn give(self: &Arc<Self>, prepared: Prepared) {
        self.with(|session, now| {
            session.require_record();
            session.give_input(prepared, now);
        });
    }

    /// The input that was given would survive a fall.
    pub(crate) fn recorded(self: &Arc<Self>) {
        self.with(Session::recorded);
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

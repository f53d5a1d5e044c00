//! Taking part in a process that runs.

use shim_proto::exec::{Attach, ExecWaits};
use shim_proto::init::{FromInit, Run, Word};

use super::Init;
use super::orders::Told;
use super::table::open_pidfd;
use crate::fail;

impl Init {
    /// Hands out a pidfd of a process that runs, and the end that it reads from, if that is
    /// open. Both stay good whatever becomes of the shim.
    pub(super) fn attach(&mut self, order: u64, wanted: &Attach) -> Told {
        let what = format!("attach to {:?}", wanted.name);
        // What the shim knows of the process is of this run.
        while self.tell_next() {}
        let mut slots = self.slots.iter().enumerate();
        let found = slots.find_map(|(index, slot)| {
            let slot = slot.as_ref()?;
            let runs = slot.record.name == wanted.name && slot.starting.is_none();
            runs.then_some((index, slot))
        });
        let not_there = || fail::stale(&*what, "it does not run");
        let (index, slot) = found.ok_or_else(not_there)?;
        let mut descriptors = vec![open_pidfd(slot.record.pid).ok_or_else(not_there)?];
        if let Some(input) = &slot.input {
            let input = input.try_clone();
            let input = input.map_err(|err| fail::terminal(&*what, err.to_string()))?;
            descriptors.push(input);
        }
        let run = Run {
            slot: u32::try_from(index).unwrap_or(u32::MAX),
            run: slot.record.starts,
        };
        let message = FromInit {
            descriptors: u32::try_from(descriptors.len()).unwrap_or(0),
            word: Some(Word::ExecWaits(ExecWaits {
                order,
                run: Some(run),
                ..ExecWaits::default()
            })),
        };
        if let Some(link) = &mut self.link
            && link.push(&message, descriptors).is_err()
        {
            self.lose_shim();
        }
        Ok(())
    }
}

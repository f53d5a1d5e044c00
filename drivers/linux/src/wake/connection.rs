//! Hints from shims.

use driver_api::{Mark, WakeReason};
use rustix::event::epoll;

use super::{TOKEN_NOBODY, Wakes, take_token};
use crate::shim_client::ShimClient;

impl Wakes {
    /// Listens to a shim's connection until it says something, or closes.
    pub(crate) fn listen(&self, mark: &Mark, client: &ShimClient) {
        let mut table = self.shared.table();
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        // One token per life for its connection, found again by its reason.
        let known = table
            .lives
            .get(mark)
            .into_iter()
            .flat_map(|life| &life.tokens)
            .find(|token| {
                table
                    .tokens
                    .get(token)
                    .is_some_and(|(_, why)| *why == WakeReason::Process)
            })
            .copied();
        let token = match known {
            Some(token) => token,
            None => {
                let Some(token) = take_token(&mut table, mark, WakeReason::Process) else {
                    return;
                };
                table
                    .lives
                    .entry(mark.clone())
                    .or_default()
                    .tokens
                    .push(token);
                token
            }
        };
        let event = epoll::EventData::new_u64(token);
        let fd = client.as_fd();
        if epoll::modify(&self.shared.poll, fd, event, flags).is_err() {
            // Refused: this connection gives no hints, the resync does.
            let _refused = epoll::add(&self.shared.poll, fd, event, flags);
        }
    }

    /// Listens to a connection no more until [`Self::listen`]: the answer to a request is no
    /// hint, and taken for one it would lead to the next look, and that to the next.
    pub(crate) fn hush(&self, client: &ShimClient) {
        let nobody = epoll::EventData::new_u64(TOKEN_NOBODY);
        // A connection that gives no hints has none to be hushed.
        let _unknown = epoll::modify(
            &self.shared.poll,
            client.as_fd(),
            nobody,
            epoll::EventFlags::ONESHOT,
        );
    }
}

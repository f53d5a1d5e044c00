//! Records of lives.

use specs::event::KillsTold;
use specs::id::{Incarnation, Key};

use super::{Draft, DraftError};
use crate::engine::Tree;
use crate::frame;
use crate::model::LifeRecord;
use crate::outcome::RefusedError;
use crate::seal::wired;
use crate::wire;

impl Draft<'_> {
    /// Records a life. One that is recorded already keeps what was told of it.
    pub(super) fn life_begins(&mut self, life: &LifeRecord) -> Result<(), DraftError> {
        let at = wire::numbered_key(&life.key, life.incarnation.0);
        for (other, framed) in self.all(Tree::Lives, b"")? {
            // The key of the record says enough, even if its content is damaged.
            let Ok((holder, number)) = wire::numbered(&other) else {
                continue;
            };
            if number != life.incarnation.0 {
                continue;
            }
            let known = frame::open(Tree::Lives, &other, &framed)
                .ok()
                .and_then(|content| wire::life(&other, content).ok());
            let is_same = known.is_some_and(|known| known.generation == life.generation);
            if other != at || !is_same {
                let incarnation = life.incarnation;
                return Err(RefusedError::LifeTaken {
                    incarnation,
                    holder,
                }
                .into());
            }
            return Ok(());
        }
        let content = wired(Tree::Lives, &at, wire::life_content(life))?;
        self.meta.incarnation = self.meta.incarnation.max(life.incarnation.0);
        self.put(Tree::Lives, &at, &content)
    }

    /// Notes how far kills were told. A life that is over, or whose record is damaged, has
    /// nothing to note it in; the event that tells of them is not held up by that.
    pub(super) fn kills_told(
        &mut self,
        key: &Key,
        incarnation: Incarnation,
        told: KillsTold,
    ) -> Result<(), DraftError> {
        let at = wire::numbered_key(key, incarnation.0);
        let framed = self.get(Tree::Lives, &at)?;
        let known = framed.and_then(|framed| {
            let content = frame::open(Tree::Lives, &at, &framed).ok()?;
            wire::life(&at, content).ok()
        });
        let Some(mut life) = known else { return Ok(()) };
        life.kills_told = Some(told);
        let content = wired(Tree::Lives, &at, wire::life_content(&life))?;
        self.put(Tree::Lives, &at, &content)
    }
}

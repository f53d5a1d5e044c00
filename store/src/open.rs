//! What an open finds, what it concludes, and what it does about it.
//!
//! The table is in `docs/formats/store.md`.

use std::path::PathBuf;

use crate::commit::Access;
use crate::copy::{self, Copy, Recovered};
use crate::disk;
use crate::engine::{Engine, EngineError};
use crate::home::{self, Examined, Home, Said, state_op};
use crate::image::Image;
use crate::outcome::{Health, OpenError, Opened, words};
use crate::seal::place;
use crate::wire::{Meta, SCHEMA, Witness};

/// An open store, as far as the facade needs it.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) meta: Meta,
    pub(crate) copy: Option<Copy>,
    pub(crate) access: Access,
    pub(crate) opened: Opened,
}

/// Everything that speaks for or against what the engine holds.
struct Evidence {
    /// Said by a witness that can be read.
    witness: Option<Witness>,
    /// A witness is where it should be, whatever it says.
    has_witness: bool,
    recovered: Option<Recovered>,
}

impl Evidence {
    /// Returns the highest revision that anything outside the engine knows of.
    fn revision(&self) -> u64 {
        let said = self.witness.as_ref().map_or(0, |witness| witness.revision);
        let copied = self
            .recovered
            .as_ref()
            .map_or(0, |found| found.meta.revision);
        said.max(copied)
    }

    fn id(&self) -> Option<String> {
        let said = self.witness.as_ref().map(|witness| witness.id.clone());
        said.or_else(|| self.recovered.as_ref().map(|found| found.meta.id.clone()))
    }

    fn is_of_a_new_store(&self) -> bool {
        self.recovered.is_none()
            && match &self.witness {
                Some(witness) => witness.revision == 0,
                None => !self.has_witness,
            }
    }

    /// Raises what must never fall back, whatever was lost.
    fn raise(&self, meta: &mut Meta) {
        meta.revision = meta.revision.max(self.revision());
        let copied = self.recovered.as_ref().map(|found| found.meta.witness());
        for said in self.witness.iter().chain(&copied) {
            meta.incarnation = meta.incarnation.max(said.incarnation);
            meta.next_event = meta.next_event.max(said.next_event);
        }
    }
}

/// Brings the store in `home` to where it can be read and, if at all possible, written.
/// The lock is held.
pub(crate) fn open(home: &Home) -> Result<Standing, OpenError> {
    let failed = |source| OpenError::Files(home.directory.clone(), source);
    let said = home.read_witness().map_err(failed)?;
    if let Said::Newer(found) = said {
        return Err(OpenError::Newer {
            found,
            known: SCHEMA,
        });
    }
    disk::remove_temporaries(&home.directory).map_err(failed)?;
    let was_cut = home.remove_unfinished().map_err(failed)?;
    let evidence = gather(home, said).map_err(failed)?;
    let is_there = disk::has_entries(&home.engine_path()).map_err(failed)?;
    if !is_there && !was_cut && evidence.is_of_a_new_store() {
        return make(home, evidence);
    }
    if !is_there {
        let why = if was_cut {
            "a rebuild was cut short"
        } else {
            "its files are gone"
        };
        return rebuild(home, evidence, why.to_owned(), None);
    }
    let examined = home.open_engine().and_then(|engine| {
        let examined = home::examine(engine.as_ref())?;
        Ok((engine, examined))
    });
    match examined {
        Ok((engine, examined)) => judge(home, evidence, engine, examined),
        Err(error) if error.is_damage() => {
            let why = words(&error);
            rebuild(home, evidence, why, None)
        }
        Err(error @ EngineError::Full { .. }) => match evidence.recovered {
            Some(found) => Ok(from_image(found, &error)),
            None => Err(OpenError::Engine(error.into())),
        },
        Err(error) => Err(OpenError::Engine(error.into())),
    }
}

fn gather(home: &Home, said: Said) -> std::io::Result<Evidence> {
    let has_witness = said != Said::Nothing;
    let witness = match said {
        Said::This(witness) => Some(witness),
        Said::Nothing | Said::Unreadable | Said::Newer(_) => None,
    };
    let recovered = copy::recover(&home.directory)?.filter(|found| {
        // A copy of another store speaks of another store.
        witness
            .as_ref()
            .is_none_or(|witness| witness.id == found.meta.id)
    });
    Ok(Evidence {
        witness,
        has_witness,
        recovered,
    })
}

/// Makes a store where there is none.
fn make(home: &Home, evidence: Evidence) -> Result<Standing, OpenError> {
    let failed = |source| OpenError::Files(home.directory.clone(), source);
    let id = match evidence.id() {
        Some(id) => id,
        None => disk::draw_id().map_err(failed)?,
    };
    let meta = Meta::empty(id);
    // Before the engine: so an engine without a witness is never a new one.
    home.write_witness(&meta).map_err(failed)?;
    let engine = home
        .open_engine()
        .map_err(|error| OpenError::Engine(error.into()))?;
    finish_making(home, engine, meta)
}

fn finish_making(home: &Home, engine: Box<dyn Engine>, meta: Meta) -> Result<Standing, OpenError> {
    let written = engine
        .apply(&[state_op(&meta)])
        .and_then(|()| engine.make_durable());
    written.map_err(|error| OpenError::Engine(error.into()))?;
    Ok(Standing {
        copy: Copy::write(&home.directory, engine.as_ref(), &meta).ok(),
        engine,
        meta,
        access: Access::Open,
        opened: Opened {
            health: Health::Sound,
            fresh: true,
        },
    })
}

/// Compares an engine that opened with all that is said of it.
fn judge(
    home: &Home,
    evidence: Evidence,
    engine: Box<dyn Engine>,
    examined: Examined,
) -> Result<Standing, OpenError> {
    if let Some(found) = examined.schema.filter(|schema| *schema > SCHEMA) {
        return Err(OpenError::Newer {
            found,
            known: SCHEMA,
        });
    }
    let Some(why) = wrong(&evidence, &examined) else {
        let meta = examined
            .meta
            .expect("BUG: an engine without a state record is wrong");
        return Ok(sound(home, evidence, engine, meta));
    };
    if let Some(witness) = &evidence.witness
        && examined.meta.is_none()
        && examined.tally.count == 0
        && evidence.is_of_a_new_store()
    {
        // Cut short while it was made: nothing was ever committed.
        return finish_making(home, engine, Meta::empty(witness.id.clone()));
    }
    // How far another store got says nothing of this one.
    let id = evidence.id();
    let own = examined
        .meta
        .as_ref()
        .filter(|meta| id.as_ref().is_none_or(|id| *id == meta.id));
    let reached = own.map_or(0, |meta| meta.revision);
    let is_current = evidence
        .recovered
        .as_ref()
        .is_some_and(|found| found.meta.revision >= evidence.revision().max(reached));
    if is_current {
        drop(engine);
        return rebuild(home, evidence, why, examined.meta);
    }
    let id = match evidence.id() {
        Some(id) => id,
        None => {
            disk::draw_id().map_err(|source| OpenError::Files(home.directory.clone(), source))?
        }
    };
    let mut meta = examined.meta.unwrap_or_else(|| Meta::empty(id));
    meta.count = examined.tally.count;
    meta.sum = examined.tally.sum;
    evidence.raise(&mut meta);
    meta.doubt = Some(match meta.doubt {
        Some(old) if old.contains(&why) => old,
        Some(old) => format!("{old}; {why}"),
        None => why.clone(),
    });
    Ok(Standing {
        engine,
        meta,
        copy: None,
        access: Access::Open,
        opened: Opened {
            health: Health::Suspect(why),
            fresh: false,
        },
    })
}

/// Returns what is wrong with an engine that opened, if anything is.
fn wrong(evidence: &Evidence, examined: &Examined) -> Option<String> {
    if let Some((tree, key)) = examined.damaged.first() {
        let (count, first) = (examined.damaged.len(), place(*tree, key));
        return Some(format!("{count} records are damaged, the first is {first}"));
    }
    let Some(meta) = &examined.meta else {
        return Some("it has no state record".to_owned());
    };
    if examined.tally.count != meta.count {
        let (is, was) = (examined.tally.count, meta.count);
        return Some(format!("it holds {is} records, and {was} were committed"));
    }
    if examined.tally.sum != meta.sum {
        return Some("its records are not those that were committed".to_owned());
    }
    if let Some(witness) = &evidence.witness {
        if witness.id != meta.id {
            return Some("it is another store than its witness knows".to_owned());
        }
        let (is, was) = (meta.revision, witness.revision);
        if is < was {
            return Some(format!(
                "it stands at revision {is}, and {was} was committed"
            ));
        }
        if is == was && (meta.count, meta.sum) != (witness.count, witness.sum) {
            return Some(format!(
                "its revision {is} is not the one that was committed"
            ));
        }
    }
    if let Some(found) = &evidence.recovered {
        let (is, was) = (meta.revision, found.meta.revision);
        if found.meta.id == meta.id && is < was {
            return Some(format!("it stands at revision {is}, and its copy at {was}"));
        }
    }
    None
}

/// An engine with nothing wrong inside; what is beside it is brought up to it.
fn sound(home: &Home, evidence: Evidence, engine: Box<dyn Engine>, mut meta: Meta) -> Standing {
    let copy = match evidence.recovered {
        Some(found) if found.meta == meta => found.copy,
        _ => None,
    };
    let is_vouched = evidence.witness.is_some() || (evidence.has_witness && copy.is_some());
    if !is_vouched && meta.doubt.is_none() {
        let how = if evidence.has_witness {
            "cannot be read"
        } else {
            "is missing"
        };
        meta.doubt = Some(format!(
            "the witness {how}, so nothing says that this is the newest"
        ));
    }
    let copy = copy.or_else(|| Copy::write(&home.directory, engine.as_ref(), &meta).ok());
    let health = match &meta.doubt {
        Some(doubt) => Health::Suspect(doubt.clone()),
        None => Health::Sound,
    };
    Standing {
        opened: Opened {
            fresh: meta.revision == 0 && health == Health::Sound,
            health,
        },
        engine,
        meta,
        copy,
        access: Access::Open,
    }
}

/// Moves the engine aside and makes a new one from the newest image, or from nothing.
fn rebuild(
    home: &Home,
    evidence: Evidence,
    why: String,
    damaged: Option<Meta>,
) -> Result<Standing, OpenError> {
    let failed = |source| OpenError::Files(home.directory.clone(), source);
    let moved_to: PathBuf = home.move_engine_aside().map_err(failed)?;
    let id = match evidence.id() {
        Some(id) => id,
        None => disk::draw_id().map_err(failed)?,
    };
    let mut meta = evidence
        .recovered
        .as_ref()
        .map_or_else(|| Meta::empty(id), |found| found.meta.clone());
    let from = meta.revision;
    evidence.raise(&mut meta);
    if let Some(damaged) = damaged.filter(|damaged| damaged.id == meta.id) {
        meta.incarnation = meta.incarnation.max(damaged.incarnation);
    }
    let loss = match &evidence.witness {
        Some(witness) if witness.revision > from => Some(format!(
            "revisions {} to {} are lost",
            from + 1,
            witness.revision
        )),
        Some(_) => None,
        None => Some("nothing says whether anything after it is lost".to_owned()),
    };
    let why = match &loss {
        Some(loss) => format!("{why}; rebuilt as of revision {from}; {loss}"),
        None => format!("{why}; rebuilt as of revision {from}, which is the newest"),
    };
    if loss.is_some() {
        meta.doubt = Some(why.clone());
    }
    let (image, copy) = match evidence.recovered {
        Some(found) => (found.image, found.copy.filter(|_| meta == found.meta)),
        None => (Image::default(), None),
    };
    let opened = Opened {
        health: Health::Rebuilt { why, moved_to },
        fresh: false,
    };
    match home.fill(&image, &meta) {
        Ok(engine) => {
            home.write_witness(&meta).map_err(failed)?;
            Ok(Standing {
                copy: copy.or_else(|| Copy::write(&home.directory, engine.as_ref(), &meta).ok()),
                engine,
                meta,
                access: Access::Open,
                opened,
            })
        }
        Err(EngineError::Full { .. }) => Ok(Standing {
            engine: Box::new(image),
            meta,
            copy,
            access: Access::Lost {
                is_to_be_replaced: true,
            },
            opened,
        }),
        Err(error) => Err(OpenError::Engine(error.into())),
    }
}

/// The engine cannot be opened for now: what is known is read from memory.
fn from_image(found: Recovered, error: &EngineError) -> Standing {
    let why = format!("{}; read from its copy, and not written", words(error));
    Standing {
        engine: Box::new(found.image),
        meta: found.meta,
        copy: found.copy,
        access: Access::Unopened,
        opened: Opened {
            health: Health::Suspect(why),
            fresh: false,
        },
    }
}

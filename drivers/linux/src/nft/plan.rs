//! The acts that lead from the table that stands to the one that is wanted.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::LifeRules;
use super::expr::Verdict;
use super::life::{chain, chain_for, closed, elements, read_chain};
use super::model::{Act, Chain, Datum, Element, Model, Set, after};
use super::observe::{is_sound, strays};
use super::shared::{Named, are_same, chain_name, leaf_of};

/// Whether what stands is mended or made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// Only what differs is touched.
    Mend,
    /// The table goes and comes back with all that was read.
    Rebuild,
}

/// Returns the acts after which a life has its rules.
pub(super) fn set(
    model: Option<&Model>,
    shared: &[Named],
    rules: &LifeRules<'_>,
    care: Care,
) -> Vec<Act> {
    let mut acts = match model {
        Some(model) if care == Care::Mend && can_mend(model, shared) => mend(model, shared),
        _ => rebuild(model, shared, rules.leaf),
    };
    let base = match model {
        Some(model) if acts.is_empty() => Cow::Borrowed(model),
        _ => Cow::Owned(after_all(model, &acts)),
    };
    let name = chain_name(rules.leaf);
    let wanted = chain(rules);
    let found = base.chains.get(&name);
    if found.is_none() {
        acts.push(Act::MakeChain(name.clone(), None));
    }
    let found = found.map_or([].as_slice(), |found| &found.rules);
    if !are_same(found, &wanted.rules) {
        if !found.is_empty() {
            acts.push(Act::ClearChain(name.clone()));
        }
        acts.extend(add_rules(&name, &wanted));
    }
    acts.extend(set_elements(&base, rules));
    acts
}

/// Returns the acts after which nothing of a life is left, nor a table without lives.
pub(super) fn remove(model: Option<&Model>, shared: &[Named], leaf: &str, care: Care) -> Vec<Act> {
    let Some(model) = model else {
        return Vec::new();
    };
    if !has_other_life(model, leaf) {
        return vec![Act::DropTable];
    }
    let chain = chain_name(leaf);
    let leads_there = |element: &Element| match &element.datum {
        Datum::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => *to == chain,
        _ => false,
    };
    let mut acts = Vec::new();
    for (set, elements) in &model.sets {
        for (key, element) in elements {
            if element.leaf.as_deref() == Some(leaf) || leads_there(element) {
                acts.push(Act::DropElement(*set, key.clone()));
            }
        }
    }
    if model.chains.contains_key(&chain) {
        acts.push(Act::ClearChain(chain.clone()));
        acts.push(Act::DropChain(chain));
    }
    if acts.is_empty() || care == Care::Mend {
        return acts;
    }
    rebuild(Some(model), shared, leaf)
}

/// Returns whether acts touch one life only.
pub(super) fn is_own(acts: &[Act], leaf: &str) -> bool {
    let name = chain_name(leaf);
    acts.iter().all(|act| match act {
        Act::DropTable | Act::MakeTable | Act::MakeSet(_) => false,
        Act::MakeChain(chain, _)
        | Act::ClearChain(chain)
        | Act::DropChain(chain)
        | Act::AddRule(chain, _) => *chain == name,
        Act::DropElement(..) => true,
        Act::AddElement(_, _, element) => element.leaf.as_deref() == Some(leaf),
    })
}

fn has_other_life(model: &Model, leaf: &str) -> bool {
    let own = chain_name(leaf);
    let is_other = |name: &str| leaf_of(name).is_some() && name != own;
    let mut elements = model.sets.values().flat_map(|set| set.values());
    model.chains.keys().any(|name| is_other(name))
        || elements.any(|element| element.leaf.as_deref().is_some_and(|other| other != leaf))
}

/// Returns whether what differs can be mended with the table in its place.
fn can_mend(model: &Model, shared: &[Named]) -> bool {
    let is_right = |(name, found): (&String, &Chain)| {
        let known = shared.iter().find(|(known, _)| known == name);
        match known {
            Some((_, wanted)) => wanted.hook == found.hook,
            None => leaf_of(name).is_some() && found.hook.is_none(),
        }
    };
    !model.is_crooked && model.chains.iter().all(is_right)
}

/// Returns the acts after which the shared part is as it shall be.
fn mend(model: &Model, shared: &[Named]) -> Vec<Act> {
    let mut acts = Vec::new();
    let lacking = Set::ALL
        .into_iter()
        .filter(|set| !model.sets.contains_key(set));
    acts.extend(lacking.map(Act::MakeSet));
    for (name, chain) in shared {
        if !model.chains.contains_key(*name) {
            acts.push(Act::MakeChain((*name).to_owned(), chain.hook.clone()));
        }
    }
    for (name, chain) in shared {
        let found = model.chains.get(*name);
        let found = found.map_or([].as_slice(), |found| &found.rules);
        if !are_same(found, &chain.rules) {
            if !found.is_empty() {
                acts.push(Act::ClearChain((*name).to_owned()));
            }
            acts.extend(add_rules(name, chain));
        }
    }
    let strays = strays(model).into_iter();
    acts.extend(strays.map(|(set, key)| Act::DropElement(set, key)));
    acts
}

/// Returns the acts that make the table and all that was read, but for one life.
fn rebuild(model: Option<&Model>, shared: &[Named], but: &str) -> Vec<Act> {
    let mut acts = Vec::new();
    if model.is_some() {
        acts.push(Act::DropTable);
    }
    acts.push(Act::MakeTable);
    acts.extend(mend(&Model::default(), shared));
    acts.extend(model.into_iter().flat_map(|model| others(model, but)));
    acts
}

/// Returns the acts that bring back all lives that were read, but for one.
fn others(model: &Model, but: &str) -> Vec<Act> {
    let mut acts = Vec::new();
    let is_kept = |leaf: &str| leaf != but;
    let mut kept = BTreeSet::new();
    for (name, chain) in &model.chains {
        let Some(leaf) = leaf_of(name).filter(|leaf| is_kept(leaf)) else {
            continue;
        };
        if chain.hook.is_some() {
            continue;
        }
        acts.push(Act::MakeChain(name.clone(), None));
        let read = read_chain(leaf, chain);
        let chain = read.map_or_else(closed, |(own, egress)| chain_for(leaf, own, &egress));
        acts.extend(add_rules(name, &chain));
        kept.insert(name.as_str());
    }
    for (set, elements) in &model.sets {
        for (key, element) in elements {
            let has_life = element.leaf.as_deref().is_some_and(is_kept);
            let can_stand = match &element.datum {
                Datum::None | Datum::Value(_) => true,
                Datum::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => kept.contains(to.as_str()),
                Datum::Verdict(_) | Datum::Foreign => false,
            };
            if has_life && can_stand && is_sound(*set, key, element) {
                acts.push(Act::AddElement(*set, key.clone(), element.clone()));
            }
        }
    }
    acts
}

/// Adds what a life lacks and takes what it shall not have, or what others have in its place.
fn set_elements(base: &Model, rules: &LifeRules<'_>) -> Vec<Act> {
    let wanted = elements(rules);
    let mut acts = Vec::new();
    for (set, elements) in &base.sets {
        let own = elements
            .iter()
            .filter(|(_, found)| found.leaf.as_deref() == Some(rules.leaf));
        for (key, _) in own {
            if !wanted.contains_key(&(*set, key.clone())) {
                acts.push(Act::DropElement(*set, key.clone()));
            }
        }
    }
    for ((set, key), element) in wanted {
        let found = base.sets.get(&set).and_then(|elements| elements.get(&key));
        if found == Some(&element) {
            continue;
        }
        if found.is_some() {
            acts.push(Act::DropElement(set, key.clone()));
        }
        acts.push(Act::AddElement(set, key, element));
    }
    acts
}

fn after_all(model: Option<&Model>, acts: &[Act]) -> Model {
    let acts = acts.iter().cloned();
    acts.fold(model.cloned(), after).unwrap_or_default()
}

fn add_rules(name: &str, chain: &Chain) -> Vec<Act> {
    let rules = chain.rules.iter();
    rules
        .map(|rule| Act::AddRule(name.to_owned(), rule.clone()))
        .collect()
}

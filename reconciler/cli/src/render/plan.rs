//! What would be done, and why.

use reconciler_daemon::api::wire::{PlanContainer, PlanField, PlanView};

use super::paint::{Paint, Tone};
use super::status::refused;
use super::{escape, human};

/// Longest value of a field that is shown in full, characters.
const VALUE_CHARS_MAX: usize = 120;

/// One class of change: its mark, its words, and its tone.
struct Class {
    mark: &'static str,
    words: &'static str,
    tone: Tone,
}

/// Every class the protocol names, in the order the sum tells them.
const CLASSES: &[(&str, Class)] = &[
    (
        "create",
        Class {
            mark: "+",
            words: "create",
            tone: Tone::Good,
        },
    ),
    (
        "live",
        Class {
            mark: "~",
            words: "change live",
            tone: Tone::Warn,
        },
    ),
    (
        "process",
        Class {
            mark: "!",
            words: "restart processes of",
            tone: Tone::Warn,
        },
    ),
    (
        "recreate",
        Class {
            mark: "-/+",
            words: "make anew",
            tone: Tone::Bad,
        },
    ),
    (
        "repair",
        Class {
            mark: "*",
            words: "repair",
            tone: Tone::Busy,
        },
    ),
    (
        "delete",
        Class {
            mark: "-",
            words: "delete",
            tone: Tone::Bad,
        },
    ),
    (
        "blocked",
        Class {
            mark: "x",
            words: "blocked",
            tone: Tone::Bad,
        },
    ),
];

/// Returns a whole plan.
pub(crate) fn plan(plan: &PlanView, paint: Paint) -> String {
    let mut out = String::new();
    for container in &plan.containers {
        out.push_str(&one(container, paint));
        out.push('\n');
    }
    if !plan.refused.is_empty() {
        out.push_str(refused(&plan.refused, paint).trim_start_matches('\n'));
        out.push('\n');
    }
    out.push_str(&sum(plan, paint));
    out
}

/// Whether there is nothing to do and nothing refused.
pub(crate) fn is_clean(plan: &PlanView) -> bool {
    plan.containers.is_empty() && plan.refused.is_empty()
}

fn one(container: &PlanContainer, paint: Paint) -> String {
    let (mark, tone) = look(&container.class);
    let name = escape::line(&container.name);
    let class = escape::line(&container.class);
    let head = paint.put(tone, &format!("{mark} {name}"));
    let mut out = format!("{head} ({class})\n");
    out.push_str(&fields(&container.fields, paint));
    let steps = container.stages.iter().flatten();
    let width = steps
        .map(|step| step.step.chars().count())
        .max()
        .unwrap_or(0);
    for (at, stage) in container.stages.iter().enumerate() {
        out.push_str(&paint.put(Tone::Dim, &format!("    stage {}", at + 1)));
        out.push('\n');
        for step in stage {
            let verb = escape::line(&step.step);
            out.push_str(&format!(
                "      {verb:<width$}  {}\n",
                escape::line(&step.reason)
            ));
        }
    }
    for blocker in &container.blocked {
        let mark = paint.put(Tone::Bad, "waits on");
        out.push_str(&format!("    {mark} {}\n", escape::line(blocker)));
    }
    out
}

/// Returns one line a changed field.
pub(super) fn fields(fields: &[PlanField], paint: Paint) -> String {
    let widths = fields.iter().map(|field| field.path.chars().count());
    let width = widths.max().unwrap_or(0);
    let lines = fields.iter().map(|each| field(each, width, paint));
    lines.collect()
}

fn field(field: &PlanField, width: usize, paint: Paint) -> String {
    let (mark, tone) = look(&field.class);
    let mark = paint.put(tone, &format!("{mark:>3}"));
    let path = escape::line(&field.path);
    format!(
        "  {mark} {path:<width$}  {} -> {}\n",
        value(&field.from),
        value(&field.to)
    )
}

fn value(text: &str) -> String {
    let text = if text.is_empty() {
        "(none)".into()
    } else {
        escape::line(text)
    };
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text.into_owned();
    }
    let size = human::bytes(u64::try_from(text.len()).unwrap_or(u64::MAX));
    let head: String = text.chars().take(VALUE_CHARS_MAX).collect();
    format!("{head}... ({size} bytes in all)")
}

/// Returns the mark and tone of a class; a class of a later protocol has none of its own.
fn look(class: &str) -> (&'static str, Tone) {
    CLASSES
        .iter()
        .find(|(name, _)| *name == class)
        .map_or(("?", Tone::Warn), |(_, class)| (class.mark, class.tone))
}

fn sum(plan: &PlanView, paint: Paint) -> String {
    let count = |name: &str| {
        plan.containers
            .iter()
            .filter(|one| one.class == name)
            .count()
    };
    let known = CLASSES
        .iter()
        .map(|(name, class)| (count(name), class.words));
    let mut parts: Vec<String> = known
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{words} {count}"))
        .collect();
    let strange = plan
        .containers
        .iter()
        .filter(|one| CLASSES.iter().all(|(name, _)| one.class != *name));
    match strange.count() {
        0 => {}
        count => parts.push(format!("other {count}")),
    }
    if !plan.refused.is_empty() {
        parts.push(format!("refused files {}", plan.refused.len()));
    }
    let kept = match plan.kept {
        0 => String::new(),
        1 => "; 1 container is as it should be".to_owned(),
        kept => format!("; {kept} containers are as they should be"),
    };
    let head = paint.put(Tone::Strong, "Plan:");
    if parts.is_empty() {
        return format!("{head} nothing to do{kept}\n");
    }
    format!("{head} {}{kept}\n", parts.join(", "))
}

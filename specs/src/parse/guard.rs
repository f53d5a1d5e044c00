//! The first reader of every text: one pass over its events, with caps, before anything
//! else sees it.
//!
//! The parser behind it is not the one that makes the spec. What one of the two refuses is
//! refused, so the laxer never decides alone; what they are known to read differently
//! (anchors, tags, merge keys, odd keys and characters) is refused here. Work and memory
//! are bounded by the caps, whatever the text is.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::decode::number;
use super::faults::{Fault, Faults};
use super::meter::{Meter, Metered, SEPARATORS_MAX};
use super::tree::{Entry, Node, Place, Scalar, Value};
use crate::diagnostic::{Code, plain};

/// Deepest nesting.
pub const DEPTH_MAX: usize = 32;
/// Most keys and values in one file.
pub const NODES_MAX: usize = 50_000;
/// Most documents in one file.
pub const DOCUMENTS_MAX: usize = 64;
/// What the guard made of a text.
#[derive(Debug, Default)]
pub(crate) struct Guarded<'a> {
    /// Roots of the documents, whole or, where reading ended early, as far as they go.
    pub(crate) documents: Vec<Node<'a>>,
    /// Events read; the work that was done.
    pub(crate) events: usize,
    /// Line on which reading ended early.
    pub(crate) stopped: Option<u32>,
    /// It ended because of a cap.
    pub(crate) capped: bool,
}

/// Reads the text's documents. Guarantee: at most [`NODES_MAX`] nodes are kept.
pub(crate) fn read<'a>(text: &'a str, faults: &mut Faults<'_>) -> Guarded<'a> {
    let mut guard = Guard {
        lines: text.split('\n').collect(),
        open: Vec::new(),
        nodes: 0,
        out: Guarded::default(),
    };
    if let Some(place) = guard.directive() {
        let message = "directives (`%` at the beginning of a line) are not allowed";
        faults.push(
            place,
            Fault::new(Code::Syntax, message).help("remove the line"),
        );
        guard.out.stopped = Some(place.line);
        return guard.out;
    }
    let meter = Meter::default();
    let mut parser = Parser::new(Metered::new(text, meter.clone()));
    guard.run(&mut parser, &meter, faults);
    while !guard.open.is_empty() {
        guard.close(None);
    }
    guard.out
}

fn too_many_nodes() -> Fault {
    let message = format!("more than {NODES_MAX} keys and values in one file");
    Fault::new(Code::TooManyNodes, message).help("put containers into files of their own")
}

fn too_many_separators() -> Fault {
    let message = format!("more than {SEPARATORS_MAX} separators in one value");
    let help = "write a large text as a block (`|`), a long list with one `- item` a line";
    Fault::new(Code::TooManyNodes, message).help(help)
}

struct Guard<'a> {
    lines: Vec<&'a str>,
    open: Vec<Open<'a>>,
    nodes: usize,
    out: Guarded<'a>,
}

/// A list or mapping whose end was not seen yet.
enum Open<'a> {
    List(Place, Vec<Node<'a>>),
    Map(Place, Vec<Entry<'a>>, Option<(Scalar<'a>, Place)>),
}

impl<'a> Guard<'a> {
    fn run(
        &mut self,
        parser: &mut Parser<'a, Metered<'a>>,
        meter: &Meter,
        faults: &mut Faults<'_>,
    ) {
        let mut documents = 0;
        while let Some(next) = parser.next_event() {
            self.out.events += 1;
            let (event, span) = match next {
                Ok((_, span)) if meter.is_over() => {
                    let place = self.place(&span);
                    self.over(place, faults);
                    return;
                }
                Err(err) if meter.is_over() => {
                    let place = self.point(&err);
                    self.over(place, faults);
                    return;
                }
                Ok(next) => next,
                Err(err) => {
                    let place = self.point(&err);
                    self.out.stopped = Some(place.line);
                    faults.push(place, syntax(&err));
                    return;
                }
            };
            meter.reset();
            let place = self.place(&span);
            let told = match event {
                Event::StreamEnd => return,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => Ok(()),
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > DOCUMENTS_MAX {
                        Err(Fault::new(
                            Code::TooManyDocuments,
                            "more than 64 documents in one file",
                        ))
                    } else {
                        Ok(())
                    }
                }
                event => self.node(event, place, faults),
            };
            if let Err(fault) = told {
                self.out.stopped = Some(place.line);
                self.out.capped = matches!(
                    fault.code,
                    Code::TooDeep | Code::TooManyNodes | Code::TooManyDocuments
                );
                faults.push(place, fault);
                return;
            }
        }
    }

    /// Ends the reading because the parser held back too much.
    fn over(&mut self, place: Place, faults: &mut Faults<'_>) {
        self.out.stopped = Some(place.line);
        self.out.capped = true;
        faults.push(place, too_many_separators());
    }

    /// Takes one event of a document. An error ends the reading.
    fn node(
        &mut self,
        event: Event<'a>,
        place: Place,
        faults: &mut Faults<'_>,
    ) -> Result<(), Fault> {
        match event {
            Event::SequenceEnd | Event::MappingEnd => {
                self.close(Some(faults));
                return Ok(());
            }
            _ => self.nodes += 1,
        }
        if self.nodes > NODES_MAX {
            return Err(too_many_nodes());
        }
        let (anchor, tag) = match &event {
            Event::Alias(_) => {
                let help = "write the value out; quote a text that begins with `*`";
                return Err(Fault::new(Code::Anchor, "aliases are not allowed").help(help));
            }
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                (*anchor, tag.is_some())
            }
            _ => (0, false),
        };
        if anchor != 0 {
            let help = "remove the anchor; quote a text that begins with `&`";
            faults.push(
                place,
                Fault::new(Code::Anchor, "anchors are not allowed").help(help),
            );
        }
        if tag {
            let help = "remove the tag; quote a text that begins with `!`";
            faults.push(
                place,
                Fault::new(Code::Tag, "tags are not allowed").help(help),
            );
        }
        match event {
            Event::Scalar(text, style, ..) => self.scalar(text, style, place, faults),
            Event::SequenceStart(..) => self.open(Open::List(place, Vec::new())),
            Event::MappingStart(..) => self.open(Open::Map(place, Vec::new(), None)),
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: std::borrow::Cow<'a, str>,
        style: ScalarStyle,
        place: Place,
        faults: &mut Faults<'_>,
    ) -> Result<(), Fault> {
        let plain_style = style == ScalarStyle::Plain;
        if text.contains('\0') {
            let message = "a text may not hold the character NUL";
            faults.push(
                place,
                Fault::new(Code::Character, message).help("remove the `\\0`"),
            );
        }
        let scalar = Scalar {
            text,
            plain: plain_style,
        };
        if let Some(Open::Map(_, _, key @ None)) = self.open.last_mut() {
            let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
            if block || scalar.text.contains('\n') || scalar.is_null() {
                faults.push(
                    place,
                    Fault::new(Code::KeyShape, "a key must be plain text on one line"),
                );
            } else if scalar.plain && scalar.text == "<<" {
                let help = "write the keys out where they are needed";
                faults.push(
                    place,
                    Fault::new(Code::MergeKey, "merge keys are not allowed").help(help),
                );
            }
            *key = Some((scalar, place));
            return Ok(());
        }
        self.add(Node {
            place,
            value: Value::Scalar(scalar),
        });
        Ok(())
    }

    fn open(&mut self, open: Open<'a>) -> Result<(), Fault> {
        if let Some(Open::Map(_, _, None)) = self.open.last() {
            // Its end could not be told from the end of its value: reading stops here.
            return Err(Fault::new(
                Code::KeyShape,
                "a key must be plain text on one line",
            ));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Fault::new(Code::TooDeep, "nested more than 32 levels deep"));
        }
        self.open.push(open);
        Ok(())
    }

    /// Ends the innermost list or mapping; without `faults` because the text ended early.
    fn close(&mut self, faults: Option<&mut Faults<'_>>) {
        let Some(open) = self.open.pop() else { return };
        let (place, value) = match open {
            Open::List(place, items) => (place, Value::List(items)),
            Open::Map(place, entries, _) => {
                if let Some(faults) = faults {
                    duplicates(&entries, faults);
                }
                (place, Value::Map(entries))
            }
        };
        self.add(Node { place, value });
    }

    fn add(&mut self, node: Node<'a>) {
        match self.open.last_mut() {
            None => self.out.documents.push(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => {
                if let Some((key, key_place)) = key.take() {
                    entries.push(Entry {
                        key,
                        key_place,
                        node,
                    });
                }
            }
        }
    }

    /// Returns the part of a span that lies on its first line.
    fn place(&self, span: &Span) -> Place {
        let line = span.start.line();
        let column = number(span.start.col()).saturating_add(1);
        let end_column = if span.end.line() == line && span.end.col() > span.start.col() {
            number(span.end.col()).saturating_add(1)
        } else {
            let text = line.checked_sub(1).and_then(|at| self.lines.get(at));
            let length = text.map_or(0, |text| text.trim_end().chars().count());
            number(length)
                .saturating_add(1)
                .max(column.saturating_add(1))
        };
        let line = number(line);
        Place {
            line,
            column,
            end_column,
        }
    }

    fn point(&self, err: &ScanError) -> Place {
        let line = err.marker().line().clamp(1, self.lines.len().max(1));
        let column = number(err.marker().col()).saturating_add(1);
        Place {
            line: number(line),
            column,
            end_column: column.saturating_add(1),
        }
    }

    fn directive(&self) -> Option<Place> {
        let at = self.lines.iter().position(|line| line.starts_with('%'))?;
        let line = number(at).saturating_add(1);
        let length = self
            .lines
            .get(at)
            .map_or(1, |line| line.trim_end().chars().count());
        let end_column = number(length).saturating_add(1);
        Some(Place {
            line,
            column: 1,
            end_column,
        })
    }
}

fn syntax(err: &ScanError) -> Fault {
    let info = plain(err.info());
    let fault = Fault::new(Code::Syntax, format!("the text is not YAML: {info}"));
    if info.contains("tab") {
        return fault.help("indent with spaces");
    }
    fault
}

/// Tells of every key that stands in a mapping twice, at its second place.
fn duplicates(entries: &[Entry<'_>], faults: &mut Faults<'_>) {
    let mut order: Vec<&Entry<'_>> = entries.iter().collect();
    order.sort_by_key(|entry| {
        (
            &*entry.key.text,
            entry.key_place.line,
            entry.key_place.column,
        )
    });
    for pair in order.windows(2) {
        let [first, second] = pair else { continue };
        if first.key.text == second.key.text {
            let message = format!("the key `{}` is given twice", plain(&second.key.text));
            let note = format!("first given on line {}", first.key_place.line);
            let fault = Fault::new(Code::DuplicateKey, message)
                .note(note)
                .help("remove one of the two");
            faults.push(second.key_place, fault);
        }
    }
}

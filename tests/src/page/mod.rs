//! Pages of `docs/` whose commands a scenario runs, in their order, as a reader does.
//!
//! A block that begins with three backticks and `sh` is run. Its first line can name the machines:
//! `# on node-1`, `# on node-2 and node-3`, `# on every node`. Without such a line it is for the
//! machines of the block before, and at first for the first machine.

mod machines;

use crate::shell;
pub use machines::Machines;
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const FENCE: &str = "```";
/// Commands that change nothing.
const LOOKING: [&str; 12] = [
    "bridge fdb show",
    "bridge link",
    "cat ",
    "cnitool status",
    "curl ",
    "flanneld check-config",
    "grep ",
    "ip ",
    "journalctl ",
    "ls ",
    "ping ",
    "systemctl status",
];
/// Words of commands of `ip` that change something.
const CHANGING: [&str; 4] = [" add ", " del ", " delete ", " set "];
/// How long a reader looks again before the page is wrong.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A page, read from the source tree.
pub struct Page {
    name: String,
    text: String,
    blocks: Vec<Block>,
}

/// Commands that a reader copies together.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    heading: String,
    machines: Place,
    commands: String,
}

/// Where a block runs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    First,
    Every,
    Named(Vec<String>),
}

impl Page {
    /// Reads `docs/NAME`.
    pub fn open(name: &str) -> Page {
        let path = Path::new(ROOT).join("docs").join(name);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let blocks = blocks(&text);
        assert!(!blocks.is_empty(), "{name} has no block of commands");
        Page {
            name: name.to_owned(),
            text,
            blocks,
        }
    }

    /// Runs every block of a section; an empty heading is the part before the first one. The
    /// replacements put what the reader sees in place of what the page has as an example. Returns
    /// what the last block printed on its last machine.
    #[track_caller]
    pub fn run(&self, heading: &str, on: &Machines, replacements: &[(&str, &str)]) -> String {
        let blocks = self.blocks.iter().filter(|block| block.heading == heading);
        let mut printed = None;
        for block in blocks {
            let mut commands = block.commands.clone();
            for (example, real) in replacements {
                commands = commands.replace(example, real);
            }
            for machine in on.select(&block.machines) {
                let place = format!("{}, {heading}, {machine}", self.name);
                printed = Some(execute(on, machine, &commands, &place));
            }
        }
        printed.unwrap_or_else(|| panic!("{} has no commands in \"{heading}\"", self.name))
    }

    /// The first block of a section that is in another language than commands: a file.
    #[track_caller]
    pub fn file(&self, heading: &str, language: &str) -> String {
        let mut sections = self.text.split("\n## ");
        let section = sections.find(|section| section.lines().next() == Some(heading));
        let block = section.and_then(|section| {
            let (_, rest) = section.split_once(&format!("{FENCE}{language}\n"))?;
            Some(rest.split_once(FENCE)?.0.to_owned())
        });
        block.unwrap_or_else(|| panic!("{} has no {language} in \"{heading}\"", self.name))
    }

    /// The commands of a section, for a machine of another kind.
    #[track_caller]
    pub fn commands(&self, heading: &str) -> String {
        let blocks = self.blocks.iter().filter(|block| block.heading == heading);
        let blocks: Vec<&str> = blocks.map(|block| block.commands.as_str()).collect();
        assert!(!blocks.is_empty(), "{}: {heading}", self.name);
        blocks.join("\n")
    }

    /// The headings of the sections with commands, in their order.
    pub fn headings(&self) -> Vec<&str> {
        let mut headings: Vec<&str> = Vec::new();
        for block in &self.blocks {
            if headings.last() != Some(&block.heading.as_str()) {
                headings.push(&block.heading);
            }
        }
        headings
    }
}

/// Runs a block as one script that ends at the first failure. A block that only looks runs again
/// until it succeeds, since the other nodes need a moment.
#[track_caller]
fn execute(machines: &Machines, name: &str, commands: &str, place: &str) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let output = machines.try_sh(name, commands);
        if output.status.success() || !only_looks(commands) || Instant::now() > deadline {
            return shell::checked(place, commands, &output);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn only_looks(commands: &str) -> bool {
    let mut lines = commands.lines().filter(|line| !line.starts_with('#'));
    lines.all(|line| {
        let looks = LOOKING.iter().any(|command| line.starts_with(command));
        looks && !CHANGING.iter().any(|word| line.contains(word))
    })
}

/// The blocks of a page's text.
fn blocks(text: &str) -> Vec<Block> {
    let mut heading = "";
    let mut machines = Place::First;
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title;
        } else if let Some(language) = line.strip_prefix(FENCE) {
            let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != FENCE).collect();
            if language != "sh" {
                continue;
            }
            if let Some(place) = inside.first().and_then(|line| place(line)) {
                machines = place;
            }
            blocks.push(Block {
                heading: heading.to_owned(),
                machines: machines.clone(),
                commands: inside.join("\n"),
            });
        }
    }
    blocks
}

/// The machines that the first line of a block names.
fn place(line: &str) -> Option<Place> {
    let names = line.strip_prefix("# on ")?;
    let names = names.split(':').next()?;
    if names == "every node" {
        return Some(Place::Every);
    }
    let names = names.split(" and ").flat_map(|names| names.split(", "));
    Some(Place::Named(names.map(str::to_owned).collect()))
}

/// Every Markdown file of the source tree that is documentation: those of its root and of `docs/`.
pub fn all() -> Vec<PathBuf> {
    let root = Path::new(ROOT).canonicalize().expect("source tree");
    let mut files = Vec::new();
    for folder in [root.clone(), root.join("docs")] {
        let entries = fs::read_dir(&folder).expect("folder");
        files.extend(
            entries
                .map(|entry| entry.expect("entry").path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
        );
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_commands_have_a_heading_and_machines() {
        let page = "# Page\n```sh\nls /\n```\n## One\n```text\nnot run\n```\n```sh\n# on b and c: text\nls /a\nb\n```\n\
                    ```sh\nc\n```\n## Two\n```sh\n# on every node\nd\n```\n";
        let found: Vec<_> = blocks(page)
            .into_iter()
            .map(|block| (block.heading, block.machines, block.commands))
            .collect();
        let named = Place::Named(vec!["b".to_owned(), "c".to_owned()]);
        let entry = |heading: &str, place: &Place, commands: &str| {
            (heading.to_owned(), place.clone(), commands.to_owned())
        };
        assert_eq!(
            found,
            [
                entry("", &Place::First, "ls /"),
                entry("One", &named, "# on b and c: text\nls /a\nb"),
                entry("One", &named, "c"),
                entry("Two", &Place::Every, "# on every node\nd"),
            ]
        );
    }

    #[test]
    fn only_a_block_that_changes_nothing_is_repeated() {
        assert!(only_looks("# on node-1\nip route\nping -c1 10.0.0.1"));
        assert!(!only_looks("ip route\nsystemctl restart flanneld"));
        assert!(!only_looks("ip netns add pod"));
    }
}

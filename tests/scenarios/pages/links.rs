//! Links between the pages: each file and each heading that a page names is there, and the README
//! names every page.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use tests::{page, scenario};

/// The targets of inline links, `[text](target)`, outside of code.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for part in prose(text).split("](").skip(1) {
        if let Some((target, _)) = part.split_once(')') {
            targets.push(target.to_owned());
        }
    }
    targets
}

/// The text without blocks and spans of code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            let outside = line.split('`').step_by(2);
            prose.push_str(&outside.collect::<Vec<_>>().join(""));
            prose.push('\n');
        }
    }
    prose
}

/// The anchors of a page's headings, as GitHub and GitLab make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The file of a link, and the heading in it.
fn resolve(page: &Path, target: &str) -> (PathBuf, Option<String>) {
    let (file, heading) = match target.split_once('#') {
        Some((file, heading)) => (file, Some(heading.to_owned())),
        None => (target, None),
    };
    let folder = page.parent().expect("folder");
    let path = if file.is_empty() {
        page.to_owned()
    } else {
        folder.join(file)
    };
    (path, heading)
}

#[scenario]
fn every_link_between_pages_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for page in page::all() {
        for target in targets(&read(&page)) {
            if target.contains("://") {
                continue;
            }
            let (path, heading) = resolve(&page, &target);
            let found = match heading {
                None => path.exists(),
                Some(heading) => path.is_file() && anchors(&read(&path)).contains(&heading),
            };
            if !found {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[scenario]
fn readme_names_every_page() {
    let pages = page::all();
    let readme = pages.iter().find(|page| page.ends_with("README.md"));
    let readme = readme.expect("README.md");
    let named: BTreeSet<PathBuf> = targets(&read(readme))
        .iter()
        .filter_map(|target| resolve(readme, target).0.canonicalize().ok())
        .collect();
    let missing: Vec<_> = pages
        .iter()
        .filter(|page| *page != readme && !named.contains(*page))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

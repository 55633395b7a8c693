//! Text of another program for the log or a message: one line, and no control character, which
//! could forge another one or move the cursor of a terminal.

/// Longest text, characters.
const LONGEST: usize = 300;

/// The text as a line, without the rest of a long one.
pub(crate) fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_lines_nor_terminals_can_be_forged() {
        assert_eq!(
            one_line(" a\nlevel=info msg=ok\u{1b}[2J \u{e9}\n"),
            "a level=info msg=ok [2J \u{e9}"
        );
        assert_eq!(one_line(&"x".repeat(100_000)).len(), LONGEST);
    }
}

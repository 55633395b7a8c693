//! What is wrong with a command line, in one sentence; flags have one dash, as in the
//! documentation.

use clap::{
    Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Why a command line is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It asks for this help.
    Help(String),
    /// What is wrong with it.
    Usage(String),
}

/// The sentence, and the command that prints the right use.
pub(super) fn explain(error: &Error, help: &str) -> String {
    format!("{}; see `{help}`", reason(error))
}

/// The sentence.
pub(super) fn reason(error: &Error) -> String {
    let context = |kind| error.get(kind).map(words).filter(|text| !text.is_empty());
    let arg = context(ContextKind::InvalidArg).unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    match (error.kind(), value) {
        (ErrorKind::UnknownArgument, _) if arg.starts_with('-') => {
            let advice = context(ContextKind::SuggestedArg);
            let advice = advice.map(|known| format!(" (is it {known}?)"));
            format!("there is no flag {arg}{}", advice.unwrap_or_default())
        }
        (ErrorKind::UnknownArgument, _) => format!("unexpected argument {arg:?}"),
        (ErrorKind::InvalidValue, Some(value)) if arg == "ACTION" => {
            let advice = context(ContextKind::SuggestedValue);
            let advice = advice.map(|known| format!(" (is it {known}?)"));
            format!(
                "there is no command {value:?}{}",
                advice.unwrap_or_default()
            )
        }
        (ErrorKind::InvalidValue, Some(value)) => {
            let known = context(ContextKind::ValidValue).unwrap_or_default();
            let known = known.replace(", ", " or ");
            format!("{arg} cannot be {value:?}: it is {known}")
        }
        (ErrorKind::InvalidValue, None) => format!("{arg} needs a value"),
        (ErrorKind::ValueValidation, Some(value)) => {
            let source = std::error::Error::source(error).map(ToString::to_string);
            let source = match source.as_deref() {
                Some("invalid digit found in string") => "it is not a number".to_owned(),
                Some(reason) => reason.to_owned(),
                None => "it cannot be read".to_owned(),
            };
            format!("{arg} cannot be {value:?}: {source}")
        }
        (ErrorKind::MissingRequiredArgument, _) => format!("missing: {arg}"),
        _ => first_line(&error.to_string()),
    }
}

fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => plain(text),
        ContextValue::Strings(texts) => {
            let texts: Vec<_> = texts.iter().map(|text| plain(text)).collect();
            texts.join(", ")
        }
        other => other.to_string(),
    }
}

/// The library writes `--iface <NAME|IP>`, `--ip-masq[=<BOOL>]`, `[ACTION]` and `<FILE>`.
fn plain(text: &str) -> String {
    match text.strip_prefix("--") {
        Some(flag) => {
            let end = flag.find([' ', '[', '=']).unwrap_or(flag.len());
            format!("-{}", &flag[..end])
        }
        None => text.trim_matches(['<', '>', '[', ']', '.']).to_owned(),
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").replace("'--", "'-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction, Command};

    fn command() -> Command {
        let number = Arg::new("port").long("port").value_name("PORT");
        let masq = Arg::new("ip-masq").long("ip-masq").num_args(0..=1);
        Command::new("flanneld")
            .arg(number.value_parser(clap::value_parser!(u16)))
            .arg(
                masq.require_equals(true)
                    .value_parser(["true", "false"])
                    .action(ArgAction::Set),
            )
            .arg(Arg::new("FILE").required(true))
    }

    #[test]
    fn each_refusal_is_one_sentence_with_one_dash() {
        for (args, expected) in [
            (
                &["--prt=1", "f"][..],
                "there is no flag -prt (is it -port?)",
            ),
            (
                &["--port=many", "f"],
                "-port cannot be \"many\": it is not a number",
            ),
            (
                &["--port=70000", "f"],
                "-port cannot be \"70000\": 70000 is not in 0..=65535",
            ),
            (&["--port"], "-port needs a value"),
            (
                &["--ip-masq=maybe", "f"],
                "-ip-masq cannot be \"maybe\": it is true or false",
            ),
            (&["f", "g"], "unexpected argument \"g\""),
            (&[], "missing: FILE"),
        ] {
            let all = ["flanneld"].into_iter().chain(args.iter().copied());
            let error = command().try_get_matches_from(all).unwrap_err();
            assert_eq!(reason(&error), expected, "{args:?}");
        }
    }
}

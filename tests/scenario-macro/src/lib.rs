//! `#[scenario]` and `#[scenarios]`: a test function registers itself, as `#[test]` functions do.

use proc_macro::{TokenStream, TokenTree};

/// Registers a function without arguments as a case named `area/function_name`; the area is the
/// first module below the crate's root, or the crate where there is none.
///
/// With `#[scenario(unless = f)]` the case is skipped when `f() -> Option<String>` returns a
/// reason.
#[proc_macro_attribute]
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    register("scenario", &arguments, item)
}

/// Registers a function that returns a `Vec<Case>`, for cases that differ in their data only.
/// Their names are `area/` and the name that each case has. Takes `unless` as [`macro@scenario`].
#[proc_macro_attribute]
pub fn scenarios(arguments: TokenStream, item: TokenStream) -> TokenStream {
    register("scenarios", &arguments, item)
}

/// The item, and the registration of its function after it.
fn register(constructor: &str, arguments: &TokenStream, mut item: TokenStream) -> TokenStream {
    let arguments = arguments.to_string();
    let unless = match arguments.split_once('=') {
        Some((key, function)) if key.trim() == "unless" => format!("Some({function})"),
        None if arguments.is_empty() => "None".to_owned(),
        _ => return error("expected `unless = function`"),
    };
    let mut tokens = item.clone().into_iter();
    let is_fn =
        |token: TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    let Some(TokenTree::Ident(name)) = tokens
        .find_map(|token| is_fn(token).then_some(()))
        .and_then(|()| tokens.next())
    else {
        return error("expected a function");
    };
    let registration = format!(
        "::tests::inventory::submit! {{ \
             ::tests::Registered::{constructor}(module_path!(), \"{name}\", {name}, {unless}) \
         }}"
    );
    match registration.parse::<TokenStream>() {
        Ok(registration) => item.extend(registration),
        Err(_) => return error("`unless` takes the path of a function"),
    }
    item
}

fn error(message: &str) -> TokenStream {
    format!("compile_error!({message:?});")
        .parse()
        .unwrap_or_default()
}

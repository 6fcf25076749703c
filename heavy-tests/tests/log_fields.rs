//! The fields that are logged are those of `kasper::logging::FIELDS`: all of the library's source is looked through.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kasper::logging::FIELDS;
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

const MACROS: &[&str] = &[
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "event",
    "span",
    "trace_span",
    "debug_span",
    "info_span",
    "warn_span",
    "error_span",
];

/// Names of fields, with a file that logs them.
#[derive(Default)]
struct Fields {
    file: PathBuf,
    named: BTreeMap<String, PathBuf>,
    in_tests: usize,
}

impl<'a> Visit<'a> for Fields {
    fn visit_macro(&mut self, found: &'a syn::Macro) {
        let name = found.path.segments.last().unwrap().ident.to_string();
        if self.in_tests == 0 && MACROS.contains(&name.as_str()) {
            for argument in arguments(found.tokens.clone()) {
                if let Some(field) = field(&argument) {
                    self.named.insert(field, self.file.clone());
                }
            }
        }
        visit::visit_macro(self, found);
    }

    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        });
        self.in_tests += usize::from(is_test);
        visit::visit_item_mod(self, module);
        self.in_tests -= usize::from(is_test);
    }
}

/// What stands between commas.
fn arguments(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut arguments = vec![Vec::new()];
    for token in tokens {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == ',' => arguments.push(Vec::new()),
            _ => arguments.last_mut().unwrap().push(token),
        }
    }
    arguments
}

/// `name = …`, `name`, `%name` or `?name`; neither a text nor `target: …`.
fn field(argument: &[TokenTree]) -> Option<String> {
    let punct = |index: usize| match argument.get(index) {
        Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
        _ => None,
    };
    let first = usize::from(matches!(punct(0), Some('%' | '?')));
    match (argument.get(first)?, punct(first + 1)) {
        (TokenTree::Ident(name), Some('=')) => Some(name.to_string()),
        (TokenTree::Ident(name), None) if argument.len() == first + 1 => Some(name.to_string()),
        _ => None,
    }
}

fn look_through(folder: &Path, fields: &mut Fields) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            look_through(&path, fields);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            fields.file.clone_from(&path);
            fields.visit_file(&syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        }
    }
}

#[test]
fn what_is_logged_is_listed_and_what_is_listed_is_logged() {
    let mut fields = Fields::default();
    look_through(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut fields);
    assert!(fields.named.contains_key("processor"), "no events were found");
    for (name, file) in &fields.named {
        let listed = FIELDS.iter().any(|field| field.name == name);
        assert!(listed, "`{name}`, which {} logs, is not listed", file.display());
    }
    for field in FIELDS {
        assert!(fields.named.contains_key(field.name), "nothing logs `{}`", field.name);
        assert!(field.help.ends_with('.'), "{}", field.name);
    }
    assert!(FIELDS.is_sorted_by_key(|field| field.name));
}

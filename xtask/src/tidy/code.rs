//! What Rust sources name: paths with more than one part, asynchronous code, macros and attributes. Comments and
//! strings name nothing.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The names in a source, each with its line.
#[derive(Default)]
pub(super) struct Names {
    /// `a::b::c`, those of `use` trees in full, and the words `async` and `await`.
    pub(super) paths: Vec<(String, usize)>,
    /// Macros as `name!` and attributes as `#[name(` or `#![name(`.
    pub(super) macros: Vec<(String, usize)>,
}

impl Names {
    /// Reads a source. `tests` says whether to read modules for tests too.
    ///
    /// # Errors
    /// When it is no Rust source.
    pub(super) fn of(source: &str, tests: bool) -> syn::Result<Names> {
        let mut reader = Reader {
            tests,
            names: Names::default(),
        };
        reader.visit_file(&syn::parse_file(source)?);
        Ok(reader.names)
    }
}

struct Reader {
    tests: bool,
    names: Names,
}

impl Reader {
    fn path(&mut self, path: String, span: Span) {
        if path.contains("::") {
            self.names.paths.push((path, span.start().line));
        }
    }

    fn word(&mut self, word: &str, span: Span) {
        self.names.paths.push((word.to_owned(), span.start().line));
    }

    fn use_tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        let join = |ident: &syn::Ident| match prefix {
            "" => ident.to_string(),
            _ => format!("{prefix}::{ident}"),
        };
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&join(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(prefix, tree)),
            syn::UseTree::Glob(glob) => self.word(prefix, glob.star_token.spans[0]),
            syn::UseTree::Name(name) if name.ident == "self" => self.word(prefix, name.ident.span()),
            syn::UseTree::Name(name) => self.word(&join(&name.ident), name.ident.span()),
            syn::UseTree::Rename(rename) => self.word(&join(&rename.ident), rename.ident.span()),
        }
    }

    /// The names in the arguments of a macro, whose syntax only the macro knows.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Option<(String, Span)> = None;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => match &mut path {
                    Some((text, _)) if text.ends_with("::") => text.push_str(&ident.to_string()),
                    _ => self.end(path.replace((ident.to_string(), ident.span()))),
                },
                TokenTree::Punct(punct) if punct.as_char() == ':' && path.is_some() => {
                    path.iter_mut().for_each(|(text, _)| text.push(':'));
                }
                TokenTree::Group(group) => {
                    self.end(path.take());
                    self.tokens(group.stream());
                }
                _ => self.end(path.take()),
            }
        }
        self.end(path);
    }

    fn end(&mut self, path: Option<(String, Span)>) {
        if let Some((text, span)) = path {
            self.path(text.trim_end_matches(':').to_owned(), span);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_test = |attribute: &syn::Attribute| {
            let condition = attribute.parse_args::<syn::Ident>();
            attribute.path().is_ident("cfg") && condition.is_ok_and(|name| name == "test")
        };
        if self.tests || !module.attrs.iter().any(is_test) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree("", &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path.segments.iter().map(|part| part.ident.to_string());
        if let Some(first) = path.segments.first() {
            self.path(parts.collect::<Vec<_>>().join("::"), first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(last) = call.path.segments.last() {
            let line = last.ident.span().start().line;
            self.names.macros.push((format!("{}!", last.ident), line));
        }
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let mark = match attribute.style {
            syn::AttrStyle::Outer => "#[",
            syn::AttrStyle::Inner(_) => "#![",
        };
        if let (Some(name), syn::Meta::List(list)) = (attribute.path().get_ident(), &attribute.meta) {
            let line = name.span().start().line;
            self.names.macros.push((format!("{mark}{name}("), line));
            self.tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(word) = signature.asyncness {
            self.word("async", word.span);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.word("async", block.async_token.span);
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, waits: &'ast syn::ExprAwait) {
        self.word("await", waits.await_token.span);
        visit::visit_expr_await(self, waits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_unit_tests_name_nothing() {
        let source = "// a::b\nfn f<'g>() { \"c::d\"; r#\"e::f\"#; h::i(j!(k::l(\"m::n\"))); }\n#[cfg(test)]\nmod tests { use o::p; }\n";
        let lines = |tests| {
            let paths = Names::of(source, tests).unwrap().paths;
            paths
                .into_iter()
                .map(|(path, line)| format!("{line} {path}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(false), ["2 h::i", "2 k::l"]);
        assert_eq!(lines(true), ["2 h::i", "2 k::l", "4 o::p"]);
        assert_eq!(Names::of(source, true).unwrap().macros[0], ("j!".to_owned(), 2));
    }
}

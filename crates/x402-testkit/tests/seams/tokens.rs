//! Rust code as identifiers and texts: enough of a lexer to see what a file names, whatever its layout.

/// A part of a file's code. Comments are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier, a keyword, or a number.
    Word(String),
    /// A string literal without its quotes.
    Text(String),
    /// Any other character.
    Mark(char),
}

/// Returns the tokens of a file before its tests, each with its line.
pub(crate) fn tokens(code: &str) -> Vec<(usize, Token)> {
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut found = Vec::new();
    let (mut rest, mut line) = (code, 1);
    while let Some(first) = rest.chars().next() {
        let at = line;
        let (length, token) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |end| end + 2), None)
        } else if let Some((length, text)) = text(rest) {
            (length, Some(Token::Text(text)))
        } else if let Some(length) = character(rest) {
            (length, None)
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
            (length, Some(Token::Word(rest[..length].to_owned())))
        } else {
            (first.len_utf8(), (!first.is_whitespace()).then_some(Token::Mark(first)))
        };
        line += rest[..length].matches('\n').count();
        found.extend(token.map(|token| (at, token)));
        rest = &rest[length..];
    }
    found
}

/// The length and the content of the string literal with which the code begins, if it begins with one.
fn text(code: &str) -> Option<(usize, String)> {
    let unprefixed = code.strip_prefix(['b', 'c']).unwrap_or(code);
    let prefix = code.len() - unprefixed.len();
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let content = raw[hashes..].strip_prefix('"')?;
        let end = content.find(&format!("\"{}", "#".repeat(hashes)))?;
        return Some((prefix + 1 + hashes + 1 + end + 1 + hashes, content[..end].to_owned()));
    }
    let content = unprefixed.strip_prefix('"')?;
    let mut escaped = false;
    let end = content.find(|next: char| {
        let ends = next == '"' && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    })?;
    Some((prefix + 1 + end + 1, content[..end].to_owned()))
}

/// The length of the character literal with which the code begins. A lifetime is none.
fn character(code: &str) -> Option<usize> {
    let content = code.strip_prefix('\'')?;
    let escape = content.strip_prefix('\\');
    let end = match escape {
        Some(escape) => 2 + escape.chars().next()?.len_utf8() + escape.get(1..)?.find('\'')?,
        None => 1 + content.chars().next()?.len_utf8(),
    };
    code[end..].starts_with('\'').then_some(end + 1)
}

#[test]
fn code_is_read_as_words_and_texts() {
    let code =
        "use a::B as C; // no D\nconst E: &str = \"f \\\" g\"; let h = r#\"i\"j\"#; '\\n' '\"' &'k str /* l\n*/ b\"m\"";
    let words = |wanted: &dyn Fn(&Token) -> Option<String>| -> Vec<String> {
        tokens(code).iter().filter_map(|(_, token)| wanted(token)).collect()
    };
    let texts = words(&|token| if let Token::Text(text) = token { Some(text.clone()) } else { None });
    assert_eq!(texts, ["f \\\" g", "i\"j", "m"]);
    let names = words(&|token| if let Token::Word(word) = token { Some(word.clone()) } else { None });
    assert_eq!(names, ["use", "a", "B", "as", "C", "const", "E", "str", "let", "h", "k", "str"]);
    assert_eq!(tokens(code).last().unwrap().0, 3);
}

//! The comments of the sources are sentences that name their subject, in the terms of the field.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// A sentence that begins with one of these has no subject, or has a pronoun for one. A question may.
const OPENERS: &str = "Who Whom Whose Which What Whatever Why How Now Nobody Somebody Ours Theirs Not So As Always Never Also \
    Else Too Asks Says Tells May Must Is Are Was Has Had Stands Good Gone Or Nor";

/// The first sentence of a comment has no sentence before it that a pronoun could refer to.
const PRONOUNS: &str = "It Its They Them Their He His She That Those Here";

/// A clause that begins with one of these needs a main clause behind a comma.
const SUBORDINATE: &str = "Where When If Unless Until Since Because Though While";

/// The protocol has terms for what these words are used for: an identifier names, a request requests, a field holds.
const HOUSEHOLD: &str = "stand stands stood standing tell tells told speak speaks spoken say says said ask asks asked asking hear \
    hears heard whom nobody somebody nobody's somebody's anybody ours theirs fro";

/// A comment: the path and line where it begins, its marker, its paragraphs, and whether a function follows.
struct Comment {
    place: String,
    doc: bool,
    function: bool,
    /// Without the text inside of backquotes and quotation marks, which is not the comment's own.
    paragraphs: Vec<String>,
    /// The words of the first paragraph, quotations included.
    length: usize,
    /// Whether the comment begins with a quoted rule.
    quotes: bool,
}

#[test]
fn comments_are_sentences() {
    let mut faults = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let comments = comments_of(&name);
        assert!(!comments.is_empty(), "{name} has sources");
        faults.extend(comments.iter().flat_map(faults_of));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn fragments_are_found() {
    let found = |text: &str| faults_of(&read("x.rs", text)[0]).len();
    for (text, faults) in [
        ("/// Who pays.\npub payer: String,", 2),
        ("/// Which.\nId,", 2),
        ("/// The account that pays.\npub payer: String,", 0),
        ("/// The text.\npub fn text() {}", 2),
        ("/// Returns the text.\n#[must_use]\npub fn text() {}", 0),
        ("/// What stands in the way.\npub way: Way,", 2),
        ("// Why is this not a loop? A peer chooses the length.\nlet x = 1;", 0),
        ("/// The only node. Where it answers.\nNode,", 1),
        ("/// Where a node answers, its head is read.\nNode,", 0),
        ("/// \"The server says what stands there.\"\nNode,", 0),
        ("/// Its nonce is used.\nUsed,", 1),
        ("//! The store. Said `asked`.", 1),
    ] {
        assert_eq!(found(text), faults, "{text}");
    }
    assert!(read("x.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n/// Who.\nfn x() {}\n}\n").is_empty());
}

fn faults_of(comment: &Comment) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |why: String| faults.push(format!("{}: {why}", comment.place));
    let first = &comment.paragraphs[0];
    if comment.doc && comment.length < 3 {
        fault(format!("fewer than 3 words: {first}"));
    }
    let verb = words(first).next().is_some_and(|word| word.trim_end_matches(',').ends_with('s'));
    if comment.doc && comment.function && !verb && !comment.quotes {
        fault(format!("the function has no verb such as Returns: {first}"));
    }
    for (at, paragraph) in comment.paragraphs.iter().enumerate() {
        for (nth, sentence) in sentences(paragraph).into_iter().enumerate() {
            let opener = words(sentence).next().unwrap_or_default().trim_end_matches(['.', ',', ':', ';']);
            let question = sentence.ends_with('?');
            let subordinate = has(SUBORDINATE, opener) && !sentence.contains(", ");
            let pronoun = at == 0 && nth == 0 && has(PRONOUNS, opener);
            if !question && (has(OPENERS, opener) || subordinate || pronoun) {
                fault(format!("no subject: {sentence}"));
            }
        }
        for word in words(paragraph) {
            let word = word.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
            if has(HOUSEHOLD, &word) {
                fault(format!("`{word}`: {paragraph}"));
            }
        }
    }
    faults
}

fn has(list: &str, word: &str) -> bool {
    words(list).any(|listed| listed == word)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// Splits at full stops and question marks before white space.
fn sentences(paragraph: &str) -> Vec<&str> {
    let (mut sentences, mut begin) = (Vec::new(), 0);
    for (at, _) in paragraph.match_indices([' ']) {
        if paragraph[begin..at].ends_with(['.', '?', '!']) && paragraph[at + 1..].starts_with(char::is_uppercase) {
            sentences.push(&paragraph[begin..at]);
            begin = at + 1;
        }
    }
    sentences.push(&paragraph[begin..]);
    sentences
}

/// Every comment of a crate's sources but those of its unit tests.
fn comments_of(name: &str) -> Vec<Comment> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut folders, mut found) = (vec![root.join(name).join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let short = path.strip_prefix(&root).unwrap().display().to_string();
                found.extend(read(&short, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The comments of one file, up to its unit tests.
fn read(path: &str, text: &str) -> Vec<Comment> {
    let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines: Vec<&str> = text[..end].lines().map(str::trim).collect();
    let (mut comments, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let Some(marker) = ["//!", "///", "//"].into_iter().find(|marker| lines[at].starts_with(marker)) else {
            at += 1;
            continue;
        };
        let begin = at;
        while at < lines.len() && lines[at].starts_with(marker) && (marker != "//" || !lines[at].starts_with("///")) {
            at += 1;
        }
        let behind = lines[at..].iter().find(|line| !line.starts_with("#[") && !line.starts_with("//"));
        let function =
            behind.is_some_and(|line| format!(" {line}").split('(').next().unwrap_or_default().contains(" fn "));
        let paragraphs = paragraphs(lines[begin..at].iter().map(|line| line[marker.len()..].trim()));
        if let Some(first) = paragraphs.first() {
            let (length, quotes) = (words(first).count(), first.starts_with('"'));
            let (place, doc) = (format!("{path}:{}", begin + 1), marker == "///");
            let paragraphs = paragraphs.iter().map(|text| blanked(text)).collect();
            comments.push(Comment { place, doc, function, paragraphs, length, quotes });
        }
    }
    comments
}

/// Joins lines to paragraphs, without headings, tables and code blocks.
fn paragraphs<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let (mut paragraphs, mut open, mut code) = (Vec::new(), String::new(), false);
    for line in lines.chain([""]) {
        code ^= line.starts_with("```");
        let skipped = code || line.starts_with("```") || line.starts_with('#') || line.starts_with('|');
        let list = line.starts_with("- ");
        if (skipped || list || line.is_empty()) && !open.is_empty() {
            paragraphs.push(std::mem::take(&mut open));
        }
        if !skipped && !line.is_empty() {
            open.push_str(if open.is_empty() { "" } else { " " });
            open.push_str(line.trim_start_matches("- "));
        }
    }
    paragraphs
}

/// Replaces text inside of backquotes and quotation marks.
fn blanked(text: &str) -> String {
    let mut text = text.to_owned();
    for mark in ['`', '"'] {
        text = text.split(mark).enumerate().map(|(nth, part)| if nth % 2 == 0 { part } else { "QUOTE" }).collect();
    }
    text
}

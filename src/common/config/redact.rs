//! URLs as they may be shown.

const HIDDEN: &str = "***";

/// `url` without user, password, query and fragment; meant for logs and errors.
///
/// It takes any text, also a wrong URL or a list of hosts, and shows too little rather than too
/// much.
pub fn redact_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (place, hidden) = match rest.split_once(['?', '#']) {
        // A password may hold a `?` that nobody escaped: then the place begins after it.
        Some((_, hidden)) if hidden.contains('@') => return format!("{scheme}{HIDDEN}"),
        Some((place, _)) => (place, format!("?{HIDDEN}")),
        None => (rest, String::new()),
    };
    match place.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}{HIDDEN}@{place}{hidden}"),
        None => format!("{scheme}{place}{hidden}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_passwords_and_queries_are_not_shown() {
        let cases = [
            ("mongodb://localhost:27017/db", "mongodb://localhost:27017/db"),
            ("mongodb://u:secret@a:1,b:2/db?w=1", "mongodb://***@a:1,b:2/db?***"),
            ("redis://:secret@host/0", "redis://***@host/0"),
            ("redis://host/0?password=secret", "redis://host/0?***"),
            ("https://host/#secret", "https://host/?***"),
            ("u:secret@host", "***@host"),
        ];
        for (url, shown) in cases {
            assert_eq!(redact_url(url), shown);
        }
    }

    #[test]
    fn a_password_nobody_escaped_is_not_shown_either() {
        for url in ["db://u:sec/ret@host/db", "db://u:se@cret@host", "db://u:se?cret@host/db"] {
            let shown = redact_url(url);
            assert!(!["sec", "cret", "u:"].iter().any(|part| shown.contains(part)), "{shown}");
        }
    }
}

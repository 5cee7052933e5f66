//! Settings: lines `NAME=value`, as an environment or a `.env` file may have them.

use std::collections::HashMap;

use super::{SETTINGS, Sensitivity, Settings};
use crate::fuzz::hold;

/// Stands where a value must not be shown.
const PLANTED: &str = "planted-secret";

#[test]
fn settings() {
    hold!("settings", |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let mut given: HashMap<&str, String> =
            lines.map(|(name, value)| (name, value.to_owned())).collect();
        for setting in SETTINGS.iter().filter(|each| each.sensitivity == Sensitivity::Secret) {
            if let Some(value) = given.get_mut(setting.name) {
                value.push_str(PLANTED);
            }
        }
        let read = Settings::from_lookup(|name| given.get(name).cloned());
        let shown = match &read {
            Ok(settings) => format!("{settings:?}"),
            Err(error) => error.to_string(),
        };
        assert!(!shown.contains(PLANTED), "{shown}");
        if let Err(error) = read {
            assert!(!error.mistakes.is_empty());
            for mistake in &error.mistakes {
                let setting = SETTINGS.iter().find(|setting| setting.name == mistake.name);
                // An address that others can reach is of the right form, and says what else is open.
                let remedies = [setting.unwrap().accepts, "set ALLOW_INSECURE=true"];
                assert!(remedies.iter().any(|text| mistake.message.contains(text)), "{mistake:?}");
            }
        }
    });
}

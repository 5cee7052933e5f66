//! The settings as their users meet them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;

fn settings(variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    Settings::from_lookup(|name| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

fn wrong(variables: &[(&str, &str)]) -> String {
    settings(variables).unwrap_err().to_string()
}

#[test]
fn nothing_needs_to_be_set() {
    let settings = settings(&[("SOMETHING_ELSE", "1"), ("REDIS_URL", " ")]).unwrap();
    assert_eq!(settings.grpc_addr.to_string(), "127.0.0.1:50051");
    assert_eq!(settings.history_timeout.as_secs(), 30);
    assert_eq!(settings.feed, FeedSettings { autostart: true, clock: FeedClock::Wall });
    let seconds = [settings.bars.grace, settings.bars.lateness, settings.bars.log_retention];
    assert_eq!(seconds.map(|each| each.as_secs()), [2, 120, 7 * 86_400]);
    assert_eq!(settings.tradingview.ws_url.host_str(), Some("data.tradingview.com"));
    assert!(settings.mongodb.is_none() && settings.redis_url.is_none());
    assert!(matches!(settings.tradingview.auth, TradingViewAuth::Anonymous));
}

#[test]
fn every_setting_of_the_table_is_read_and_no_other() {
    let asked = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        None
    };
    Settings::from_lookup(lookup).unwrap();
    let table: BTreeSet<String> = SETTINGS.iter().map(|each| each.name.to_owned()).collect();
    assert_eq!(*asked.borrow(), table);
}

#[test]
fn all_mistakes_are_reported_at_once_with_what_is_accepted() {
    let mistakes = [
        ("GRPC_ADDR", "localhost"),
        ("ALLOW_INSECURE", "yes"),
        ("API_KEYS_FILE", "/no/such/keys"),
        ("TLS_CERT", "/no/such/cert.pem"),
        ("TLS_KEY", "/no/such/key.pem"),
        ("TLS_CLIENT_CA", "/no/such/ca.pem"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy"),
        ("RATE_LIMIT_BURST", "0"),
        ("RATE_LIMIT_PER_SECOND", "-1"),
        ("STREAMS_PER_PRINCIPAL", "0"),
        ("ENVIRONMENT", "prod"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "verbose"),
        ("MONGODB_URL", "http://db"),
        ("MONGODB_DATABASE", "a.b"),
        ("MONGODB_MIN_POOL_SIZE", "-1"),
        ("MONGODB_MAX_POOL_SIZE", "0"),
        ("REDIS_URL", "redis://"),
        ("TRADINGVIEW_WS_URL", "https://x"),
        ("TRADINGVIEW_HTTP_URL", "tradingview.com"),
        ("TRADINGVIEW_SEARCH_URL", "symbol-search.tradingview.com"),
        ("TRADINGVIEW_CA_FILE", "/no/such/file.pem"),
        ("TRADINGVIEW_PASSWORD", "hush"),
        ("HISTORY_TIMEOUT", "30"),
        ("FEED_AUTOSTART", "on"),
        ("FEED_CLOCK", "tick"),
        ("BAR_GRACE", "2h"),
        ("BAR_LATENESS", "120"),
        ("BAR_LOG_RETENTION", "0s"),
        ("JOBS_ENABLED", "on"),
        ("JOB_MARKET_DATA_SYNC_ALL_SCHEDULE", "0 */6 * * *"),
        ("JOB_MARKET_DATA_SYNC_ALL_ENABLED", "1"),
        ("JOB_MARKET_DATA_SYNC_DAILY_SCHEDULE", "0 0 9-27 * * Mon-Fri"),
        ("JOB_MARKET_DATA_SYNC_DAILY_ENABLED", "no"),
        ("JOB_REPAIR_GAPS_SCHEDULE", "@daily"),
        ("JOB_REPAIR_GAPS_ENABLED", "yes"),
        ("JOB_RETENTION_SCHEDULE", "0 0 0 30 2 *"),
        ("JOB_RETENTION_ENABLED", "off"),
    ];
    let error = settings(&mistakes).unwrap_err();
    let named: Vec<&str> = error.mistakes.iter().map(|each| each.name.as_str()).collect();
    for (name, value) in mistakes {
        assert!(named.contains(&name), "{name} is not reported: {error}");
        let setting = SETTINGS.iter().find(|each| each.name == name).unwrap();
        assert!(error.to_string().contains(setting.accepts), "{name}: {error}");
        let shown = setting.sensitivity != Sensitivity::Secret;
        assert_eq!(error.to_string().contains(&format!("`{value}`")), shown, "{name}: {error}");
    }
    assert_eq!(named.len(), mistakes.len(), "{error}");
    assert!(error.to_string().starts_with("38 settings are wrong:\n"), "{error}");
}

#[test]
fn an_address_that_others_can_reach_is_refused_unless_callers_are_known() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    for address in ["0.0.0.0:50051", "[::]:50051", "192.168.1.1:1"] {
        let encrypted = [("GRPC_ADDR", address), ("TLS_CERT", file), ("TLS_KEY", file)];
        for open in [&encrypted[..1], &encrypted] {
            let error = wrong(open);
            for text in ["ALLOW_INSECURE=true", "API_KEYS_FILE", "TLS_CLIENT_CA", address] {
                assert!(error.contains(text), "{error}");
            }
        }
        let with_clients = [&encrypted[..], &[("TLS_CLIENT_CA", file)]].concat();
        settings(&with_clients).unwrap();
        settings(&[("GRPC_ADDR", address), ("API_KEYS_FILE", file)]).unwrap();
        settings(&[("GRPC_ADDR", address), ("ALLOW_INSECURE", "true")]).unwrap();
    }
    settings(&[("GRPC_ADDR", "[::1]:50051")]).unwrap();
}

#[test]
fn half_an_encryption_is_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    for (given, missing) in
        [("TLS_CERT", "TLS_KEY"), ("TLS_KEY", "TLS_CERT"), ("TLS_CLIENT_CA", "TLS_CERT")]
    {
        let error = wrong(&[(given, file)]);
        assert!(error.contains(&format!("{given}: it is given without {missing}")), "{error}");
    }
}

#[test]
fn no_calls_a_second_is_no_limit() {
    let quota = settings(&[]).unwrap().protection.rate_limit.unwrap();
    assert_eq!((quota.burst(), quota.per_second()), (200, 20));
    let off = settings(&[("RATE_LIMIT_PER_SECOND", "0")]).unwrap();
    assert!(off.protection.rate_limit.is_none());
}

#[test]
fn proxies_are_networks_and_single_addresses() {
    let given = [("TRUSTED_PROXIES", "10.0.0.0/8, ::1")];
    let proxies = settings(&given).unwrap().protection.trusted_proxies;
    assert_eq!(
        proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "::1/128"]
    );
}

#[test]
fn symbols_are_searched_where_the_rest_of_a_simulator_is() {
    let search_url = |given: &[(&str, &str)]| {
        settings(given).unwrap().tradingview.search_url.map(|url| url.to_string())
    };
    let local = ("TRADINGVIEW_HTTP_URL", "http://127.0.0.1:1");
    let given = ("TRADINGVIEW_SEARCH_URL", "http://127.0.0.1:2");
    assert_eq!(search_url(&[]), None);
    assert_eq!(search_url(&[("TRADINGVIEW_HTTP_URL", "https://br.tradingview.com")]), None);
    assert_eq!(search_url(&[local]).unwrap(), "http://127.0.0.1:1/");
    assert_eq!(search_url(&[local, given]).unwrap(), "http://127.0.0.1:2/");
}

#[test]
fn two_ways_to_log_in_are_one_too_many() {
    let error = wrong(&[("TRADINGVIEW_AUTH_TOKEN", "hush"), ("TRADINGVIEW_SESSIONID", "hush")]);
    assert!(error.contains("TRADINGVIEW_SESSIONID: ") && !error.contains("hush"), "{error}");
}

#[test]
fn half_a_log_in_is_none() {
    for (given, missing) in [
        ("TRADINGVIEW_SESSIONID_SIGN", "TRADINGVIEW_SESSIONID"),
        ("TRADINGVIEW_USERNAME", "TRADINGVIEW_PASSWORD"),
        ("TRADINGVIEW_PASSWORD", "TRADINGVIEW_USERNAME"),
    ] {
        let error = wrong(&[(given, "hush")]);
        let expected = format!("{given}: it is given without {missing}");
        assert!(error.contains(&expected) && !error.contains("hush"), "{error}");
    }
    settings(&[("TRADINGVIEW_USERNAME", "me"), ("TRADINGVIEW_PASSWORD", "hush")]).unwrap();
}

#[test]
fn more_connections_kept_than_allowed_is_a_mistake() {
    let error = wrong(&[("MONGODB_MIN_POOL_SIZE", "9"), ("MONGODB_MAX_POOL_SIZE", "8")]);
    assert!(error.contains("MONGODB_MIN_POOL_SIZE: `9` is more than"), "{error}");
}

#[test]
fn a_tick_may_come_as_late_as_a_bar_waits_at_least() {
    for (name, value) in [("BAR_LATENESS", "1s"), ("BAR_LATENESS", "0s")] {
        let error = wrong(&[(name, value)]);
        assert!(error.contains(&format!("BAR_LATENESS: `{value}` is less than")), "{error}");
    }
    let none = settings(&[("BAR_LATENESS", "0s"), ("BAR_GRACE", "0s")]).unwrap();
    assert!(none.bars.lateness.is_zero());
    let replay = settings(&[("FEED_CLOCK", "event"), ("FEED_AUTOSTART", "false")]).unwrap();
    assert_eq!(replay.feed, FeedSettings { autostart: false, clock: FeedClock::Event });
}

#[test]
fn log_directives_are_taken_and_words_that_are_no_level_are_not() {
    for filter in ["debug", "pocketquant=debug,warn", "INFO", "off"] {
        settings(&[("LOG_LEVEL", filter)]).unwrap();
    }
    for filter in ["verbose", "info,loud", "pocketquant=loud"] {
        assert!(wrong(&[("LOG_LEVEL", filter)]).contains("LOG_LEVEL"), "{filter}");
    }
}

#[test]
fn no_secret_is_shown_by_debug_or_in_errors() {
    let secrets = [
        ("MONGODB_URL", "mongodb://user:hush@db:27017/?authSource=hush"),
        ("REDIS_URL", "redis://:hush@cache"),
        ("TRADINGVIEW_AUTH_TOKEN", "hush"),
    ];
    let shown = format!("{:?}", settings(&secrets).unwrap());
    assert!(shown.contains("mongodb://***@db:27017/") && !shown.contains("hush"), "{shown}");

    let url = [("MONGODB_URL", "mongo://user:hush@db"), ("REDIS_URL", "redis://u:hush@/0")];
    let error = wrong(&url);
    assert!(error.contains("mongo://***@db") && !error.contains("hush"), "{error}");
}

#[test]
fn help_and_readme_name_every_setting_and_its_default() {
    let (help, readme) = (help_text(), readme_table());
    for Setting { name, default, help: purpose, .. } in SETTINGS {
        for text in [&help, &readme] {
            assert!(text.contains(name) && text.contains(purpose), "{name}");
            assert!(default.is_none_or(|default| text.contains(default)), "{name}");
        }
    }
}

#[test]
fn the_example_file_holds_every_setting_commented_out_with_its_default() {
    let example = include_str!("../../../.env.example");
    let lines: BTreeSet<&str> =
        example.lines().filter(|line| line.starts_with('#') && line.contains('=')).collect();
    let expected: Vec<String> = SETTINGS
        .iter()
        .map(|each| match each.default.unwrap_or_default() {
            // In a file of variables, a value with spaces stands in quotes.
            default if default.contains(' ') => format!("#{}=\"{default}\"", each.name),
            default => format!("#{}={default}", each.name),
        })
        .collect();
    assert_eq!(lines, expected.iter().map(String::as_str).collect());
}

#[test]
fn traces_and_metrics_are_off_unless_they_have_a_place_to_go() {
    assert_eq!(settings(&[]).unwrap().telemetry, TelemetrySettings::default());
    let given = [
        ("METRICS_ADDR", "127.0.0.1:9464"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
    ];
    let telemetry = settings(&given).unwrap().telemetry;
    assert_eq!(telemetry.metrics_addr.unwrap().to_string(), "127.0.0.1:9464");
    assert_eq!(telemetry.collector.unwrap().as_str(), "http://collector:4317/");
    let disabled = [given[1], ("OTEL_SDK_DISABLED", "true")];
    assert_eq!(settings(&disabled).unwrap().telemetry.collector, None);
}

#[test]
fn what_only_the_environment_can_say_is_refused_elsewhere() {
    // It is not in this process's environment, so it must come from a file.
    let mistake = wrong(&[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hush")]);
    assert!(mistake.contains("OTEL_EXPORTER_OTLP_HEADERS: it is read from the environment only"));
    assert!(!mistake.contains("hush"), "{mistake}");
}

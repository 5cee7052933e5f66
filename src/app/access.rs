//! Which scope each method needs: the one table, from which the documentation is printed.

use std::fmt::Write as _;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::common::identity::{Access, Rule, Rules, Scope, Scopes};
use crate::proto::FILE_DESCRIPTOR_SET;

/// Services and methods, and what they need. `*` is every method of the service.
const TABLE: &[(&str, &[&str], Access)] = &[
    (
        "pocketquant.v1.MarketData",
        &[
            "GetBars",
            "ExportBars",
            "GetSyncStatus",
            "ListSyncStatuses",
            "ListSymbols",
            "GetSymbol",
            "SearchSymbols",
            "GetCoverage",
        ],
        Access::Needs(Scope::Read),
    ),
    (
        "pocketquant.v1.MarketData",
        &["SyncSymbol", "StartSync", "SyncSymbols", "WatchSync", "CancelSync", "RepairGaps"],
        Access::Needs(Scope::Sync),
    ),
    ("pocketquant.v1.MarketData", &["UpdateSymbol", "DeleteSymbol"], Access::Needs(Scope::Admin)),
    (
        "pocketquant.v1.QuoteStream",
        &["GetFeedStatus", "ListSubscriptions", "GetLatestQuote", "ListQuotes", "GetCurrentBar"],
        Access::Needs(Scope::Read),
    ),
    (
        "pocketquant.v1.QuoteStream",
        &["StreamQuotes", "StreamBars", "Subscribe", "Unsubscribe"],
        Access::Needs(Scope::Stream),
    ),
    ("pocketquant.v1.QuoteStream", &["StartFeed", "StopFeed"], Access::Needs(Scope::Admin)),
    ("pocketquant.v1.System", &["*"], Access::Needs(Scope::Admin)),
    ("grpc.health.v1.Health", &["*"], Access::Public),
    ("grpc.reflection.v1.ServerReflection", &["*"], Access::Needs(Scope::Admin)),
    ("grpc.reflection.v1alpha.ServerReflection", &["*"], Access::Needs(Scope::Admin)),
];

/// Services whose calls are not limited: probes, and looking at the contract.
const UNLIMITED: [&str; 2] = ["grpc.health.", "grpc.reflection."];

/// A method that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its service, with its package.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Whether it answers with a stream.
    pub streaming: bool,
    /// How it is guarded; absent where the table does not know it.
    pub rule: Option<Rule>,
}

impl Method {
    /// What its calls ask for: `/package.Service/Method`.
    pub fn path(&self) -> String {
        format!("/{}/{}", self.service, self.name)
    }
}

/// Every method that is served, in the order of the contract.
pub fn methods() -> Vec<Method> {
    let sets = [
        FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    sets.into_iter().flat_map(methods_of).collect()
}

/// The rule of each method, by path. What the table does not know needs the scope `admin`.
pub(super) fn rules() -> Rules {
    let rule = |method: Method| (method.path(), method.rule.unwrap_or(Rule::UNKNOWN));
    methods().into_iter().map(rule).collect()
}

fn methods_of(descriptors: &[u8]) -> Vec<Method> {
    // They are made by the same library at build time; methods that are missing need `admin`.
    let set = FileDescriptorSet::decode(descriptors).unwrap_or_default();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| Method {
                service: service_name.clone(),
                name: method.name().to_owned(),
                streaming: method.server_streaming(),
                rule: rule(&service_name, method.name(), method.server_streaming()),
            }));
        }
    }
    methods
}

fn rule(service: &str, method: &str, streaming: bool) -> Option<Rule> {
    let row = TABLE
        .iter()
        .find(|row| row.0 == service && row.1.iter().any(|name| *name == "*" || *name == method))?;
    let limited = !UNLIMITED.iter().any(|prefix| service.starts_with(prefix));
    Some(Rule { access: row.2, limited, streams: streaming && limited })
}

/// The table of the documentation (`docs/access.md`): what a key with one scope may call.
pub fn access_table() -> String {
    let mut table = String::from("| method |");
    for scope in Scope::ALL {
        let _infallible = write!(table, " `{scope}` |");
    }
    table.push_str(" no key |\n|---|---|---|---|---|---|\n");
    for method in methods() {
        let access = method.rule.unwrap_or(Rule::UNKNOWN).access;
        let _infallible = write!(table, "| `{}/{}` |", method.service, method.name);
        for scope in Scope::ALL {
            let scopes: Option<Scopes> = scope.as_str().parse().ok();
            let allowed = scopes.is_some_and(|scopes| scopes.open(access));
            table.push_str(if allowed { " yes |" } else { " - |" });
        }
        table.push_str(if access == Access::Public { " yes |\n" } else { " - |\n" });
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_that_is_served_has_its_scope() {
        let unknown: Vec<String> =
            methods().iter().filter(|each| each.rule.is_none()).map(Method::path).collect();
        assert!(unknown.is_empty(), "give them a scope in the table: {unknown:?}");
    }

    #[test]
    fn streams_are_told_from_calls_and_probes_are_not_limited() {
        let rules = rules();
        let bars = rules["/pocketquant.v1.QuoteStream/StreamBars"];
        assert_eq!(
            bars,
            Rule { access: Access::Needs(Scope::Stream), limited: true, streams: true }
        );
        let watch = rules["/grpc.health.v1.Health/Watch"];
        assert_eq!(watch, Rule { access: Access::Public, limited: false, streams: false });
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(rules[reflection].access, Access::Needs(Scope::Admin));
        assert!(!rules[reflection].limited);
    }
}

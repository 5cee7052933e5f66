//! The methods that there are: what metrics tell apart, whatever callers ask for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use metrics::SharedString;
use prost::Message as _;
use prost_types::FileDescriptorSet;

/// What stands for all methods that there are not.
const OTHER: &str = "other";

/// The names of all methods. Cheap to clone; empty by default.
#[derive(Clone, Debug, Default)]
pub struct Methods {
    /// `package.Service/Method` by path.
    names: Arc<HashMap<String, Arc<str>>>,
    /// The paths of those whose request is a stream of messages.
    taking_streams: Arc<HashSet<String>>,
}

impl Methods {
    /// Every method that encoded `descriptors` declare.
    pub fn declared(descriptors: &[&[u8]]) -> Result<Self, prost::DecodeError> {
        let (mut names, mut taking_streams) = (HashMap::new(), HashSet::new());
        for descriptors in descriptors {
            for file in FileDescriptorSet::decode(*descriptors)?.file {
                for service in &file.service {
                    for method in &service.method {
                        let package = file.package();
                        let name = format!("{package}.{}/{}", service.name(), method.name());
                        if method.client_streaming() {
                            taking_streams.insert(format!("/{name}"));
                        }
                        names.insert(format!("/{name}"), name.into());
                    }
                }
            }
        }
        Ok(Self { names: Arc::new(names), taking_streams: Arc::new(taking_streams) })
    }

    /// Whether the request of the method that `path` calls is a stream of messages.
    pub(super) fn takes_stream(&self, path: &str) -> bool {
        self.taking_streams.contains(path)
    }

    /// The method that `path` calls, as a label.
    pub(super) fn label(&self, path: &str) -> SharedString {
        self.names.get(path).map_or(OTHER.into(), |name| Arc::clone(name).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_declared_methods_have_labels_of_their_own() {
        let methods = Methods::declared(&[tonic_health::pb::FILE_DESCRIPTOR_SET]).unwrap();
        let label = |path| methods.label(path).to_string();
        assert_eq!(label("/grpc.health.v1.Health/Check"), "grpc.health.v1.Health/Check");
        for unknown in ["/grpc.health.v1.Health/Chock", "/", "", "/a/b/c"] {
            assert_eq!(label(unknown), "other");
        }
    }
}

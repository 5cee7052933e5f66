//! The methods that there are: what metrics tell apart, whatever callers ask for.

use std::collections::HashMap;
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
}

impl Methods {
    /// Every method that encoded `descriptors` declare.
    pub fn declared(descriptors: &[&[u8]]) -> Result<Self, prost::DecodeError> {
        let mut names = HashMap::new();
        for descriptors in descriptors {
            for file in FileDescriptorSet::decode(*descriptors)?.file {
                for service in &file.service {
                    for method in &service.method {
                        let package = file.package();
                        let name = format!("{package}.{}/{}", service.name(), method.name());
                        names.insert(format!("/{name}"), name.into());
                    }
                }
            }
        }
        Ok(Self { names: Arc::new(names) })
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

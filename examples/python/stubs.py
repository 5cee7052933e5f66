"""Makes the Python stubs of `proto/`, beside this file or in the folder that is named."""

import sys
from pathlib import Path

from grpc_tools import protoc

here = Path(__file__).resolve().parent
proto = here.parent.parent / "proto"
out = Path(sys.argv[1]) if len(sys.argv) > 1 else here
files = sorted(str(path) for path in (proto / "pocketquant").rglob("*.proto"))
# `google/protobuf` lies beside grpcio-tools.
includes = [proto, Path(protoc.__file__).parent / "_proto"]
includes = [f"-I{path}" for path in includes if path.is_dir()]
sys.exit(protoc.main(["protoc", *includes, f"--python_out={out}", f"--grpc_python_out={out}", *files]))

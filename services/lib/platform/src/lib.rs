//! Configuration, telemetry, lifecycle, HTTP and gRPC servers, limits as layers.

//! Group calls against a fake cluster.

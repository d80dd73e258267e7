//! The group consumer against a fake cluster.

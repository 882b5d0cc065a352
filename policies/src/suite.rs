//! Policy tests: requests, and the answers they must get.

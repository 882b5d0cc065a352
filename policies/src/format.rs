//! Policies, laid out as Cedar lays them out.

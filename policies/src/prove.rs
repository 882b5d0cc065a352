//! What holds for every request, shown by a solver.

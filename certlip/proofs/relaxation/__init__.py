"""Linear relaxation in rigorous arithmetic: what bound propagation and case distinctions prove."""

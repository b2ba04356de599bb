"""From a model, samples and a radius to a verdict per sample: bounds, margins, attack, certificates."""

from certlip.verify.pipeline import Question, SampleResult, Status, Verifier, verify_samples

__all__ = ["Question", "SampleResult", "Status", "Verifier", "verify_samples"]

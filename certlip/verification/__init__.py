"""From a model, samples and a radius to a verdict per sample: bounds, margins, attack, certificates.

(`certlip.verify` is the function that users call, so the room has another name.)
"""

from certlip.verification.pipeline import Verifier, verify_samples
from certlip.verification.verdicts import Question, SampleResult, Status

__all__ = ["Question", "SampleResult", "Status", "Verifier", "verify_samples"]

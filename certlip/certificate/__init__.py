"""The record of a proof: what is claimed about which model, by which witness, and how it is stored."""

from certlip.certificate.record import SCHEMA, Certificate
from certlip.certificate.store import read_certificate, write_certificate

__all__ = ["SCHEMA", "Certificate", "read_certificate", "write_certificate"]

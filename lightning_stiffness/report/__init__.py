"""A report: the page of the TensorBoard tab in one HTML file, which opens from a disk and loads nothing."""

from lightning_stiffness.report.write import write_report as write_report

__all__ = ["write_report"]

"""Where the reference values and real images lie that some tests read: beside the clone, or nowhere."""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"

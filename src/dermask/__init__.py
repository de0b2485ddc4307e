"""Find and outline skin lesions in dermoscopy photographs. Research use only."""

__version__ = "0.1.0"

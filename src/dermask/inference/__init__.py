"""From a photograph to detections, and from detections to files."""

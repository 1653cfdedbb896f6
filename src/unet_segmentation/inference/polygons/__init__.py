"""Connected components and their contours."""

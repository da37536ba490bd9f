"""Images: data sets in memory and in folders, augmentation and mixing."""

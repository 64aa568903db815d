def parts(c):
    return ""


def limit(c):
    return ""

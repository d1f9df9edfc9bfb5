"""Reads units, as far as bake's go. Anything else is an error, so that a template that begins to use more is seen."""
import re

UNITS = '/etc/systemd/system'
LISTS = {'Wants', 'Requires', 'After', 'Before'}
COMMANDS = {'ExecStartPre', 'ExecStart', 'ExecStartPost', 'ExecStop'}
KNOWN = LISTS | COMMANDS | {
    'Description', 'StartLimitIntervalSec', 'ConditionPathExists', 'Type', 'RemainAfterExit', 'Environment', 'EnvironmentFile', 'Restart', 'RestartSec',
    'SuccessExitStatus', 'TimeoutStartSec', 'TimeoutStopSec', 'StandardOutput', 'StandardError', 'WantedBy',
}
ESCAPES = {'n': '\n', 'r': '\r', 't': '\t', '\\': '\\', '"': '"', "'": "'", 's': ' '}


def words(line):
    """systemd.syntax(7), Quoting; of specifiers only %%."""
    found, word, quote, at = [], None, '', 0
    while at < len(line):
        char = line[at]
        if char == '\\':
            code = re.match(r'\\x([0-9a-f]{2})', line[at:])
            word = (word or '') + (chr(int(code.group(1), 16)) if code else ESCAPES[line[at + 1]])
            at += len(code.group(0)) if code else 2
            continue
        if quote:
            quote, word = ('', word) if char == quote else (quote, word + char)
        elif char in '"\'':
            quote, word = char, word or ''
        elif char.isspace():
            found, word = (found + [word], None) if word is not None else (found, None)
        else:
            word = (word or '') + char
        at += 1
    found += [word] if word is not None else []
    for one in found:
        if '%' in one.replace('%%', ''):
            raise ValueError(f'a specifier in {one!r}')
    return [one.replace('%%', '%') for one in found]


def command(line, env):
    """systemd.service(5), Command lines: argv, and whether it may fail."""
    may_fail = line.startswith('-')
    argv = []
    for word in words(line.lstrip('-')):
        if re.fullmatch(r'\$[A-Za-z_]\w*', word):
            argv += env.get(word[1:], '').split()
        else:
            argv.append(re.sub(r'\$\$|\$\{(\w+)\}', lambda found: '$' if found.group(0) == '$$' else env.get(found.group(1), ''), word))
    return argv, may_fail


def read_unit(name):
    with open(f'{UNITS}/{name}') as file:
        lines = [line for line in file.read().split('\n') if not re.match(r'\s*[#;]', line)]
    settings = {}
    for line in re.sub(r'\\\n', ' ', '\n'.join(lines)).split('\n'):
        if not line.strip() or re.fullmatch(r'\[(Unit|Service|Install)\]', line):
            continue
        key, value = line.split('=', 1)
        if key not in KNOWN:
            raise ValueError(f'{name}: {key} is not known to the stand-in')
        settings.setdefault(key, []).append(value)
    return settings


def env_file(path):
    found = {}
    with open(path) as file:
        for line in file.read().split('\n'):
            if line.strip() and line[0] not in '#;':
                key, value = line.split('=', 1)
                found[key] = value[1:-1] if re.fullmatch(r'"[^"\\]*"', value) else value
    return found

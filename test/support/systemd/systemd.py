#!/usr/bin/env python3
"""Stand-in for systemd, which runs in no container here: runs bake's units, from their files, as far as these go (systemd.service(5), systemd.unit(5)).

As `systemctl` or `journalctl` it asks the one that runs as `systemd`. Of a unit it knows what unit_file.py lists.
"""
import json
import os
import re
import socket
import sys
import threading

sys.path.insert(0, '/engine/systemd')
from unit import Unit
from unit_file import UNITS, read_unit

SOCKET = '/engine/systemd.sock'


class Manager:
    def __init__(self):
        self.units = {}
        self.lock = threading.Lock()

    def unit(self, name):
        with self.lock:
            return self.units.setdefault(name, Unit(name))

    def start(self, names, how):
        """One transaction: with what they want, each after what it comes after (of these)."""
        todo, open_ = {}, list(names)
        while open_:
            name = open_.pop()
            if name in todo or not os.path.exists(f'{UNITS}/{name}'):
                continue
            settings = read_unit(name)
            todo[name] = settings
            open_ += [one for key in ('Wants', 'Requires') for value in settings.get(key, []) for one in value.split()]
        after = {name: set(' '.join(settings.get('After', [])).split()) for name, settings in todo.items()}
        for name, settings in todo.items():
            for other in ' '.join(settings.get('Before', [])).split():
                after.setdefault(other, set()).add(name)
        done = {name: threading.Event() for name in todo}
        results = {name: False for name in todo}

        def go(name):
            for other in after[name]:
                if other in done:
                    done[other].wait()
            try:
                unit = self.unit(name)
                results[name] = unit.restart() if how == 'restart' and name in names else unit.start()
            finally:
                done[name].set()

        threads = [threading.Thread(target=go, args=(name,)) for name in todo]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [name for name in names if not results.get(name)]

    def answer(self, program, argv):
        """(exit code, stdout, stderr)"""
        names = [word for word in argv if not word.startswith('-')]
        options = [word for word in argv if word.startswith('-')]
        if program == 'journalctl':
            unit = re.search(r'_SYSTEMD_UNIT=(\S+)', ' '.join(argv))
            return 0, ''.join(f'{line}\n' for line in self.unit(unit.group(1)).log) if unit else '', ''
        verb, names = names[0], names[1:]
        if verb in ('start', 'restart'):
            if '--no-block' in options:
                threading.Thread(target=self.start, args=(names, verb), daemon=True).start()
                return 0, '', ''
            failed = self.start(names, verb)
            return (1 if failed else 0), '', ''.join(f'Job for {name} failed.\n' for name in failed)
        if verb == 'stop':
            for name in names:
                self.unit(name).stop()
            return 0, '', ''
        if verb == 'is-active':
            states = [self.unit(name).state for name in names]
            return (0 if 'active' in states else 3), '' if '--quiet' in options else ''.join(f'{state}\n' for state in states), ''
        if verb == 'show':
            unit = self.unit(names[0])
            values = {'ActiveState': unit.state, 'NRestarts': unit.restarts, 'ActiveEnterTimestampMonotonic': unit.entered}
            return 0, ''.join(f'{key}={values[key]}\n' for key in (option.split('=', 1)[1] for option in options)), ''
        if verb in ('enable', 'daemon-reload', 'reset-failed', 'is-enabled'):
            return 0, '', ''
        raise ValueError(f'{program} {" ".join(argv)}: the stand-in knows no such thing')

    def serve(self, connection):
        with connection, connection.makefile('rw') as stream:
            try:
                answer = self.answer(*json.loads(stream.readline()))
            except Exception as error:
                answer = 1, '', f'stand-in of systemd: {error!r}\n'
            try:
                stream.write(json.dumps(answer) + '\n')
                stream.flush()
            except BrokenPipeError:
                pass


def manage():
    manager = Manager()
    server = socket.socket(socket.AF_UNIX)
    server.bind(SOCKET)
    server.listen(64)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=manager.serve, args=(connection,), daemon=True).start()


def ask(program, argv):
    client = socket.socket(socket.AF_UNIX)
    client.connect(SOCKET)
    with client.makefile('rw') as stream:
        stream.write(json.dumps([program, argv]) + '\n')
        stream.flush()
        status, out, err = json.loads(stream.readline())
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.exit(status)


if __name__ == '__main__':
    name = os.path.basename(sys.argv[0])
    if name in ('systemctl', 'journalctl'):
        ask(name, sys.argv[1:])
    manage()

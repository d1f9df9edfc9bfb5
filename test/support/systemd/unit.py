"""A unit's life: systemd.service(5)."""
import os
import signal
import subprocess
import threading
import time

from unit_file import command, env_file, read_unit, words


class Unit:
    def __init__(self, name):
        self.name = name
        self.job = threading.Lock()
        self.state, self.restarts, self.entered, self.log = 'inactive', 0, 0, []
        self.main = self.control = self.timer = None
        self.cancelled = False
        self.settings = {}

    def one(self, key, default):
        return self.settings.get(key, [default])[-1]

    def lists(self, key):
        return [name for value in self.settings.get(key, []) for name in value.split()]

    def environment(self):
        env = dict(os.environ)
        for value in self.settings.get('Environment', []):
            env.update(word.split('=', 1) for word in words(value))
        for value in self.settings.get('EnvironmentFile', []):
            path = value.lstrip('-')
            if os.path.exists(path) or not value.startswith('-'):
                env.update(env_file(path))
        return env

    def spawn(self, argv, env):
        child = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        threading.Thread(target=self.listen, args=(child.stderr,), daemon=True).start()
        return child

    def listen(self, stream):
        for line in stream:
            self.log.append(line.decode(errors='replace').rstrip('\n'))

    def control_all(self, key, env, seconds):
        for line in self.settings.get(key, []):
            argv, may_fail = command(line, env)
            if self.cancelled and key != 'ExecStop':
                return False
            self.control = self.spawn(argv, env)
            try:
                status = self.control.wait(seconds)
            except subprocess.TimeoutExpired:
                kill(self.control, signal.SIGKILL)
                status = self.control.wait()
            self.control = None
            if status != 0 and not may_fail:
                return False
        return True

    def start(self):
        with self.job:
            return self.state == 'active' or self.begin()

    def begin(self):
        """The job's result. What fails is tried again later, as Restart says."""
        self.cancelled = False
        self.settings = read_unit(self.name)
        for path in self.settings.get('ConditionPathExists', []):
            if os.path.exists(path.lstrip('!')) == path.startswith('!'):
                return True
        self.state = 'activating'
        seconds = float(self.one('TimeoutStartSec', '90')) or None
        env = self.environment()
        if self.one('Type', 'simple') == 'oneshot':
            well = self.control_all('ExecStartPre', env, seconds) and self.control_all('ExecStart', env, seconds)
            self.enter('failed' if not well else 'active' if self.one('RemainAfterExit', 'no') == 'yes' else 'inactive')
            return well
        well = self.control_all('ExecStartPre', env, seconds)
        if well and not self.cancelled:
            self.main = self.spawn(command(self.one('ExecStart', ''), env)[0], env)
            threading.Thread(target=self.watch, args=(self.main,), daemon=True).start()
            well = self.control_all('ExecStartPost', {**env, 'MAINPID': str(self.main.pid)}, seconds)
        if well and not self.cancelled:
            self.enter('active')
            if self.main.poll() is not None:
                self.ended(self.main)
            return True
        self.end_main()
        self.enter('failed')
        self.again(True)
        return False

    def enter(self, state):
        self.state = state
        if state == 'active':
            self.entered = time.monotonic_ns() // 1000

    def watch(self, main):
        main.wait()
        if self.state == 'active' and self.main is main:
            self.ended(main)

    def ended(self, main):
        with_success = [0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGPIPE] + [int(code) for code in self.lists('SuccessExitStatus')]
        failed = main.returncode not in with_success
        self.main = None
        self.enter('failed' if failed else 'inactive')
        self.again(failed)

    def again(self, failed):
        restart = self.one('Restart', 'no')
        if self.cancelled or restart == 'no' or (restart == 'on-failure' and not failed):
            return
        self.state = 'activating'
        self.timer = threading.Timer(float(self.one('RestartSec', '0.1')), self.restart_again)
        self.timer.daemon = True
        self.timer.start()

    def restart_again(self):
        with self.job:
            if self.state == 'activating' and not self.cancelled:
                self.restarts += 1
                self.begin()

    def cancel(self):
        """Whatever it is starting: the next job does not wait for that."""
        self.cancelled = True
        if self.timer:
            self.timer.cancel()
        if self.control:
            kill(self.control, signal.SIGKILL)

    def stop(self):
        self.cancel()
        with self.job:
            self.halt()
        return True

    def restart(self):
        self.cancel()
        with self.job:
            self.halt()
            self.restarts = 0
            return self.begin()

    def halt(self):
        if self.state == 'active' and self.main:
            self.state = 'deactivating'
            self.control_all('ExecStop', self.environment(), float(self.one('TimeoutStopSec', '90')))
        self.end_main()
        self.state = 'inactive'

    def end_main(self):
        main, self.main = self.main, None
        if main is None:
            return
        self.state = 'deactivating'
        for number in (signal.SIGTERM, signal.SIGKILL):
            kill(main, number)
            try:
                main.wait(float(self.one('TimeoutStopSec', '90')))
                return
            except subprocess.TimeoutExpired:
                pass


def kill(child, number):
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass

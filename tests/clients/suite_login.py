"""Logins that only the gateway knows: its own users, plugins and refusals."""

import subprocess

import pymysql

import servers
import suite_shell


def refusal(target, user, password, **more):
    """Error number and text of a refused login; fails when it is let in."""
    try:
        pymysql.connect(host=target.host, port=target.port, user=user, password=password,
                        **more).close()
    except pymysql.err.MySQLError as error:
        return error.args[0], error.args[1].replace(user, "USER")
    return 0, "let in"


def sha2(target):
    """The first login takes the full path by public key, the second may take the fast one."""
    for _ in range(2):
        connection = pymysql.connect(host=target.host, port=target.port, user="suite_sha2",
                                     password=target.password)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 5")
            if cursor.fetchone() != (5,):
                return "another answer"
    return None


def sha2_with_the_shell(target):
    code, out, error = suite_shell.shell(target, "--batch", "--skip-column-names", user="suite_sha2",
                                         schema=None, text="SELECT 6;")
    return suite_shell.expect((code, out), (0, "6\n")) and error


def refusals_look_alike(target):
    wrong = refusal(target, "suite", "wrong")
    unknown = refusal(target, "nobody", "wrong")
    empty = refusal(target, "suite", "")
    sha2_wrong = refusal(target, "suite_sha2", "wrong")
    if wrong[0] != 1045:
        return f"wrong password: {wrong}"
    if unknown != wrong:
        return f"{unknown} differs from {wrong}"
    if empty[0] != 1045 or sha2_wrong[0] != 1045:
        return f"{empty}, {sha2_wrong}"
    return None


def a_refusal_leaves_the_pool_alone(target):
    """A warm pool must not let a wrong password in."""
    for _ in range(100):
        found = refusal(target, "suite", "wrong")
        if found[0] != 1045:
            return str(found)
    connection = pymysql.connect(host=target.host, port=target.port, user=target.user,
                                 password=target.password)
    connection.close()
    return None


def tenants_are_apart(target):
    """The second tenant lives on the other server."""
    with pymysql.connect(host=target.host, port=target.port, user=target.user,
                         password=target.password) as first, \
            pymysql.connect(host=target.host, port=target.other_port, user="other",
                            password=target.password) as second:
        ports = []
        for connection in (first, second):
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@port")
                ports.append(cursor.fetchone()[0])
    if ports[0] != target.server.port or ports[1] == ports[0]:
        return f"servers' ports {ports}, the first tenant's should be {target.server.port}"
    return None


def the_server_decides_about_the_schema(target):
    """A login's schema is refused at login by the server's own error; it is asked again."""
    def enter(schema):
        return refusal(target, target.user, target.password, database=schema)

    for schema in ("no_such_schema", "no_such_schema", "x" * 65):
        found, direct = enter(schema), None
        try:
            pymysql.connect(host=target.host, port=target.server.port, user=target.user,
                            password=target.password, database=schema).close()
        except pymysql.err.MySQLError as error:
            direct = error.args[0], error.args[1].replace(target.user, "USER")
        if found != direct:
            return f"{schema}: {found}, directly {direct}"
    target.server.sql("DROP DATABASE IF EXISTS comes_and_goes; CREATE DATABASE comes_and_goes")
    first = enter("comes_and_goes")
    target.server.sql("DROP DATABASE comes_and_goes")
    is_refused = servers.wait_for(10, lambda: enter("comes_and_goes")[0] == 1049)
    target.server.sql("CREATE DATABASE comes_and_goes")
    last = enter("comes_and_goes")
    found, wanted = (first[0], is_refused, last[0]), (0, True, 0)
    return None if found == wanted else f"{found}, wanted {wanted}"


CASES = [sha2, sha2_with_the_shell, refusals_look_alike, a_refusal_leaves_the_pool_alone,
         tenants_are_apart, the_server_decides_about_the_schema]


def run(target):
    """Yields each case with its error."""
    for case in CASES:
        try:
            yield case.__name__, case(target)
        except (pymysql.err.MySQLError, subprocess.TimeoutExpired) as error:
            yield case.__name__, repr(error)
